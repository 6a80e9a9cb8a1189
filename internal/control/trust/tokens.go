package trust

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/egret-mesh/egret/internal/control/identity"
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
