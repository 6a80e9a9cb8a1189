package interop

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace. It is gone when nothing runs in it any more and its
// file is closed.
type namespace struct{ file *os.File }

// thisNamespace is that of the calling thread: the process's, for whom is not in onThread.
// (The first thread, whose namespace /proc/self shows, may have been in another one.)
func thisNamespace() (*namespace, error) {
	f, err := os.Open("/proc/thread-self/ns/net")
	return &namespace{f}, err
}

// newNamespace makes an empty one.
func newNamespace() (*namespace, error) {
	n := &namespace{}
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace: %w", err)
		}
		n.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	return n, err
}

// do calls f on a thread in the namespace; sockets that f opens and processes that it
// starts stay there. Goroutines that f starts do not.
func (n *namespace) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// onThread calls f on a thread that ends with it, so that nothing else runs where f left
// the thread.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		done <- f()
	}()
	return <-done
}

func (n *namespace) close() { _ = n.file.Close() }
