package kube

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// Nothing is read before somebody wants it; then the namespace's, and no other. Who connects
// again finds it read.
func TestSecretsAreFollowedWhileWanted(t *testing.T) {
	secret := func(namespace, name string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string][]byte{"password": []byte("x")}}
	}
	client := fake.NewClientset(secret("apps", "web"), secret("other", "web"))
	asked := make(chan string, 100)
	client.PrependReactor("list", "secrets", func(a clienttesting.Action) (bool, runtime.Object, error) {
		asked <- a.GetNamespace()
		return false, nil, nil
	})
	s := NewSecrets(Options{Client: client, Logger: slog.New(slog.DiscardHandler), Retry: 20 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	until := func(what string, ok func() bool) {
		t.Helper()
		deadline := time.NewTimer(30 * time.Second)
		defer deadline.Stop()
		for !ok() {
			select {
			case <-s.Changed():
			case <-deadline.C:
				t.Fatalf("not so: %s", what)
			}
		}
	}
	if _, known := s.Secret("apps", "web"); known {
		t.Error("known without being held")
	}
	s.Hold("apps")
	has := func(name string) bool {
		found, known := s.Secret("apps", name)
		return known && found != nil
	}
	until("the namespace is known", func() bool { return has("web") })
	if _, err := client.CoreV1().Secrets("apps").Create(ctx, secret("apps", "new"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	until("a new one is", func() bool { return has("new") })
	if err := client.CoreV1().Secrets("apps").Delete(ctx, "new", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until("it is gone", func() bool { return !has("new") })
	if _, known := s.Secret("other", "web"); known {
		t.Error("a namespace that nobody holds is known")
	}
	s.Release("apps")
	s.Hold("apps")
	if !has("web") {
		t.Error("who connects again waits")
	}
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(asked)
	for namespace := range asked {
		if namespace != "apps" {
			t.Errorf("the Secrets of %q were read", namespace)
		}
	}
}
