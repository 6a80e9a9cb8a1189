package image

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Registry serves images from memory.
type Registry struct {
	server *http.Server
	addr   string
}

// NewRegistry serves on a listener until Close. Plain HTTP: the container runtime of
// the node is told so.
func NewRegistry(ln net.Listener) *Registry {
	r := &Registry{
		server: &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), ReadHeaderTimeout: 10 * time.Second},
		addr:   ln.Addr().String(),
	}
	go func() { _ = r.server.Serve(ln) }()
	return r
}

// Addr is where it listens.
func (r *Registry) Addr() string { return r.addr }

// Close stops serving.
func (r *Registry) Close() { _ = r.server.Close() }

// Push builds an image and puts it into the registry at addr, by plain HTTP.
func Push(addr string, i Image) error {
	return push(addr+"/"+i.Name, i, name.Insecure)
}

// PushTo builds an image and puts it where its reference says, with the credentials
// that the user's container tools have for it.
func PushTo(reference string, i Image) error { return push(reference, i) }

func push(reference string, i Image, o ...name.Option) error {
	img, err := i.Build()
	if err != nil {
		return err
	}
	ref, err := name.ParseReference(reference, o...)
	if err != nil {
		return err
	}
	if err := remote.Write(ref, img, remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return fmt.Errorf("push %s: %w", i.Name, err)
	}
	return nil
}

// Save writes an image as an archive that container tools load.
func Save(path string, i Image) error {
	img, err := i.Build()
	if err != nil {
		return err
	}
	ref, err := name.NewTag("docker.io/" + i.Name)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(path, ref, img)
}
