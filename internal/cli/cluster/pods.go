package cluster

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var podResource = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

// containerImage is the image of a container or init container of a pod, or "".
func containerImage(pod *unstructured.Unstructured, name string) string {
	for _, field := range []string{"containers", "initContainers"} {
		list, _, _ := unstructured.NestedSlice(pod.Object, "spec", field)
		for _, item := range list {
			c, _ := item.(map[string]any)
			if c["name"] == name {
				image, _ := c["image"].(string)
				return image
			}
		}
	}
	return ""
}

// imageVersion is the tag of an image, or what stands in its place.
func imageVersion(image string) string {
	name := image[strings.LastIndexByte(image, '/')+1:]
	if _, digest, ok := strings.Cut(name, "@"); ok {
		return digest
	}
	if _, tag, ok := strings.Cut(name, ":"); ok {
		return tag
	}
	return "latest"
}
