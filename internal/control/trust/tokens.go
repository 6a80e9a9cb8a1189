package trust

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/egret-mesh/egret/internal/control/identity"
	"github.com/egret-mesh/egret/internal/control/sds"
)

// Audience is who tokens of proxies are for (Istio's projected volume istio-token).
const Audience = "istio-ca"

// Reviewer asks the API server about tokens.
func Reviewer(client kubernetes.Interface) identity.Reviewer {
	return func(ctx context.Context, token string, audiences []string) (identity.Review, error) {
		r, err := client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
			Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences},
		}, metav1.CreateOptions{})
		if err != nil {
			return identity.Review{}, err
		}
		return identity.Review{
			Authenticated: r.Status.Authenticated, User: r.Status.User.Username,
			Audiences: r.Status.Audiences, Error: r.Status.Error,
		}, nil
	}
}

// SecretsReviewer asks the API server whether a service account may list the Secrets of its
// namespace, which is what Istio asks of a proxy that wants a key of there.
func SecretsReviewer(client kubernetes.Interface) sds.Reviewer {
	return func(ctx context.Context, a sds.Account) (allowed bool, why string, err error) {
		r, err := client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{
				User:               "system:serviceaccount:" + a.Namespace + ":" + a.Name,
				Groups:             []string{"system:serviceaccounts", "system:serviceaccounts:" + a.Namespace, "system:authenticated"},
				ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: a.Namespace, Verb: "list", Resource: "secrets"},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			return false, "", err
		}
		return r.Status.Allowed && !r.Status.Denied, r.Status.Reason, nil
	}
}
