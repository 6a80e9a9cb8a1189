package trust

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/egret-mesh/egret/internal/control/identity"
)

// Secrets that an authority is kept in.
const (
	// PluggedSecret is an operator's authority; it goes before the other.
	PluggedSecret = "cacerts"
	// OwnSecret is one that signs itself, made by the first control plane.
	OwnSecret = "istio-ca-secret"
	// ownType is the type of OwnSecret (istio.io/istio/security/pkg/pki/ca).
	ownType corev1.SecretType = "istio.io/ca-root"
)

// Lives of an authority that signs itself, as in Istio (CITADEL_SELF_SIGNED_CA_CERT_TTL,
// ..._ROOT_CERT_CHECK_INTERVAL, ..._ROOT_CERT_GRACE_PERIOD_PERCENTILE).
const (
	rootLife  = 10 * 365 * 24 * time.Hour
	rootCheck = time.Hour
	rootGrace = 0.2
)

// Authority keeps the authority of the mesh in the Keeper until ctx ends; then it returns
// nil. An API server that does not answer is asked again; a Secret that cannot be used at
// the start is an error, and later leaves the last good one in force.
//
// Whether there is an operator's authority is looked at once, as in Istio: another kind
// takes a restart. Another content of the same Secret takes effect at once.
func Authority(ctx context.Context, o Options) error {
	secret, err := o.load(ctx)
	if err != nil || secret == nil {
		return err
	}
	a, err := o.use(secret)
	if err != nil {
		return err
	}
	o.Logger.Info("certificate authority", "secret", secret.Namespace+"/"+secret.Name, "until", a.NotAfter().UTC())
	o.Keeper.Put(a)
	return o.follow(ctx, secret)
}

// load reads the Secret that has the authority, and makes one where there is none. Nil
// without an error: ctx ended.
func (o Options) load(ctx context.Context) (*corev1.Secret, error) {
	for failures := 0; ctx.Err() == nil; failures++ {
		secret, err := o.loadOnce(ctx)
		if err == nil || !transient(err) {
			return secret, err
		}
		if ctx.Err() == nil {
			o.Logger.Warn("no certificate authority yet; will try again", "error", err)
			o.pause(ctx, failures)
		}
	}
	return nil, nil
}

// transient are failures of the API server, not of what is asked for.
func transient(err error) bool {
	return !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) && !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err)
}

func (o Options) loadOnce(ctx context.Context) (*corev1.Secret, error) {
	secrets := o.Client.CoreV1().Secrets(o.Namespace)
	for _, name := range []string{PluggedSecret, OwnSecret} {
		secret, err := secrets.Get(ctx, name, metav1.GetOptions{})
		if err == nil && (name == OwnSecret || len(secret.Data[identity.FileKey]) > 0 || len(secret.Data[identity.FileCert]) > 0) {
			return secret, nil
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
	}
	files, err := identity.NewSelfSigned(o.Organization, rootLife, nil, time.Now())
	if err != nil {
		return nil, err
	}
	secret, err := secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: OwnSecret, Namespace: o.Namespace}, Type: ownType, Data: files,
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) { // another replica was first
		return secrets.Get(ctx, OwnSecret, metav1.GetOptions{})
	}
	return secret, err
}

// use makes an authority of a Secret. Its errors say which key of it is wrong.
func (o Options) use(secret *corev1.Secret) (*identity.Authority, error) {
	a, err := identity.NewAuthority(secret.Data, time.Now())
	if err != nil {
		return nil, fmt.Errorf("the Secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	return a, nil
}

// follow takes what changes of the Secret, and renews an authority that signs itself.
func (o Options) follow(ctx context.Context, now *corev1.Secret) error {
	name := now.Name
	informer := coreinformers.NewFilteredSecretInformer(o.Client, o.Namespace, 0, nil, func(l *metav1.ListOptions) {
		l.FieldSelector = fields.OneTermEqualSelector("metadata.name", name).String()
	})
	changes := make(chan *corev1.Secret)
	tell := func(obj any) {
		if secret, ok := obj.(*corev1.Secret); ok && secret.Name == name {
			select {
			case changes <- secret:
			case <-ctx.Done():
			}
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: tell, UpdateFunc: func(_, obj any) { tell(obj) },
		DeleteFunc: func(any) {
			o.Logger.Error("the authority's Secret was deleted; the authority stays until this control plane ends", "secret", name)
		},
	}); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { defer close(ended); informer.RunWithContext(ctx) }()
	defer func() { <-ended }()
	check := time.NewTicker(rootCheck)
	defer check.Stop()
	for {
		if name == OwnSecret {
			o.renew(ctx, now)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-check.C:
		case secret := <-changes:
			now = o.take(now, secret)
		}
	}
}

// take uses another content of the Secret, unless it is unusable.
func (o Options) take(now, next *corev1.Secret) *corev1.Secret {
	if sameFiles(now, next) {
		return next
	}
	a, err := o.use(next)
	if err != nil {
		o.Logger.Error("the authority was changed to what cannot be used; the last one stays", "error", err)
		return now
	}
	o.Logger.Info("the certificate authority has changed", "secret", next.Namespace+"/"+next.Name, "until", a.NotAfter().UTC())
	o.Keeper.Put(a)
	return next
}

func sameFiles(a, b *corev1.Secret) bool {
	for _, name := range []string{identity.FileCert, identity.FileKey, identity.FileChain, identity.FileRoot} {
		if string(a.Data[name]) != string(b.Data[name]) {
			return false
		}
	}
	return true
}

// renew replaces an authority that signs itself before it expires, with its key and name.
// Several replicas may try: the API server takes one, and all see that.
func (o Options) renew(ctx context.Context, secret *corev1.Secret) {
	a := o.Keeper.Get()
	if time.Now().Before(a.DueAt(rootGrace)) {
		return
	}
	files, err := identity.NewSelfSigned(o.Organization, rootLife, a, time.Now())
	if err == nil {
		next := secret.DeepCopy()
		for name, data := range files {
			next.Data[name] = data
		}
		_, err = o.Client.CoreV1().Secrets(o.Namespace).Update(ctx, next, metav1.UpdateOptions{})
	}
	if err != nil && !apierrors.IsConflict(err) && ctx.Err() == nil {
		o.Logger.Error("the authority is to be renewed, and cannot be; will try again", "error", err, "until", a.NotAfter().UTC())
	}
}
