package kube

import (
	"cmp"
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
	// same says that two versions make no difference; nil: none ever do.
	same func(a, b T) bool
	// changed is told what was kept before and after, the zero value for nothing. It is
	// called with the table locked.
	changed func(k key, before, after T)
	filled  func()

	mu   sync.Mutex // guards what follows
	rows map[key]row[T]
}

type row[T any] struct {
	version string // the resourceVersion; "" where there is no row
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
	t.rows[k] = t.next(k, m, last)
	return nil
}

// next makes the row of a new version; t.mu is held.
func (t *table[T]) next(k key, m metav1.Object, last row[T]) row[T] {
	value := t.made(m, last.value)
	if last.version == "" || t.same == nil || !t.same(last.value, value) {
		t.changed(k, last.value, value)
	}
	return row[T]{cmp.Or(m.GetResourceVersion(), unversioned), value}
}

// unversioned stands for the version of what has none, as tests have it.
const unversioned = "-"

// Delete implements cache.ReflectorStore.
func (t *table[T]) Delete(object any) error {
	m, err := meta.Accessor(object)
	if err != nil {
		return fmt.Errorf("not an object: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	k := key{m.GetNamespace(), m.GetName()}
	t.drop(k)
	return nil
}

// Replace implements cache.ReflectorStore. What has not changed is not made again.
func (t *table[T]) Replace(objects []any, _ string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	rows := make(map[key]row[T], len(objects))
	for _, object := range objects {
		m, err := meta.Accessor(object)
		if err != nil {
			return fmt.Errorf("not an object: %w", err)
		}
		k := key{m.GetNamespace(), m.GetName()}
		last := t.rows[k]
		if last.version == "" || last.version != m.GetResourceVersion() {
			last = t.next(k, m, last)
		}
		rows[k] = last
	}
	for k := range t.rows {
		if _, still := rows[k]; !still {
			t.drop(k)
		}
	}
	t.rows = rows
	t.filled()
	return nil
}

// drop forgets a row; t.mu is held.
func (t *table[T]) drop(k key) {
	last, ok := t.rows[k]
	if !ok {
		return
	}
	delete(t.rows, k)
	var none T
	t.changed(k, last.value, none)
}

// get is what was made of an object.
func (t *table[T]) get(k key) (T, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.rows[k]
	return r.value, ok
}

// Resync implements cache.ReflectorStore.
func (t *table[T]) Resync() error { return nil }

// all is a copy of what was made.
func (t *table[T]) all() map[key]T {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[key]T, len(t.rows))
	for k, r := range t.rows {
		out[k] = r.value
	}
	return out
}

// each calls f with every row, the table locked.
func (t *table[T]) each(f func(k key, value T)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, r := range t.rows {
		f(k, r.value)
	}
}
