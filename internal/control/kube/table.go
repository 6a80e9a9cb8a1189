package kube

import (
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// key is an object's namespace and name.
type key struct{ namespace, name string }

// table has what was made of each object of one resource: the object itself is not kept.
type table[T any] struct {
	// made makes what is kept of an object; last is what the version before it made, the
	// zero value for none.
	made func(object metav1.Object, last T) T
	// changed is told the keys of what was made, or is gone; nil: all may have changed. It
	// is called with the table locked.
	changed func(keys []key)
	filled  func()

	mu   sync.Mutex // guards what follows
	rows map[key]row[T]
}

type row[T any] struct {
	version string // the resourceVersion
	value   T
}

func (t *table[T]) whenFilled(f func()) { t.filled = f }

// Transformer implements cache.TransformingStore: what nobody reads does not wait in the
// reflector's memory.
func (t *table[T]) Transformer() cache.TransformFunc {
	return func(object any) (any, error) {
		if m, err := meta.Accessor(object); err == nil {
			m.SetManagedFields(nil)
		}
		return object, nil
	}
}

// Add implements cache.ReflectorStore.
func (t *table[T]) Add(object any) error { return t.Update(object) }

// Update implements cache.ReflectorStore.
func (t *table[T]) Update(object any) error {
	m, err := meta.Accessor(object)
	if err != nil {
		return fmt.Errorf("not an object: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	k := key{m.GetNamespace(), m.GetName()}
	last := t.rows[k]
	if last.version != "" && last.version == m.GetResourceVersion() {
		return nil
	}
	if t.rows == nil {
		t.rows = map[key]row[T]{}
	}
	t.rows[k] = row[T]{m.GetResourceVersion(), t.made(m, last.value)}
	t.changed([]key{k})
	return nil
}

// Delete implements cache.ReflectorStore.
func (t *table[T]) Delete(object any) error {
	m, err := meta.Accessor(object)
	if err != nil {
		return fmt.Errorf("not an object: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	k := key{m.GetNamespace(), m.GetName()}
	delete(t.rows, k)
	t.changed([]key{k})
	return nil
}

// Replace implements cache.ReflectorStore. What has not changed is not made again.
func (t *table[T]) Replace(objects []any, _ string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	rows := make(map[key]row[T], len(objects))
	same := len(objects) == len(t.rows)
	for _, object := range objects {
		m, err := meta.Accessor(object)
		if err != nil {
			return fmt.Errorf("not an object: %w", err)
		}
		k := key{m.GetNamespace(), m.GetName()}
		last, had := t.rows[k]
		if !had || last.version == "" || last.version != m.GetResourceVersion() {
			last, same = row[T]{m.GetResourceVersion(), t.made(m, last.value)}, false
		}
		rows[k] = last
	}
	if t.rows = rows; !same {
		t.changed(nil)
	}
	t.filled()
	return nil
}

// Resync implements cache.ReflectorStore.
func (t *table[T]) Resync() error { return nil }

// each calls f with every row, the table locked.
func (t *table[T]) each(f func(k key, value T)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, r := range t.rows {
		f(k, r.value)
	}
}
