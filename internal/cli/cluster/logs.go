package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

type logFlags struct {
	namespace, selector string
	denied, allowed     bool
	follow              bool
	tail                int64
}

func logsCommand(f *flags) *cobra.Command {
	var o logFlags
	cmd := &cobra.Command{
		Use: "logs [flags]", Short: "Print what the proxies of a cluster let out and refused",
		Long: `Reads the access logs of all proxies, sidecars and gateways, and prints each line after the
name of its pod. --denied is what was refused, with the reason; --allowed is the rest.`,
		Example: fmt.Sprintf("  %[1]s logs --denied -f\n  %[1]s logs -n shop -l app=web", f.name),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.denied && o.allowed {
				return errors.New("--denied and --allowed together are everything: say neither")
			}
			return f.logs(cmd.Context(), o)
		},
	}
	p := cmd.Flags()
	p.StringVarP(&o.namespace, "namespace", "n", "", "only pods of this `namespace`")
	p.StringVarP(&o.selector, "selector", "l", "", "only pods with these `labels`")
	p.BoolVar(&o.denied, "denied", false, "only what was refused")
	p.BoolVar(&o.allowed, "allowed", false, "only what was let out")
	p.BoolVarP(&o.follow, "follow", "f", false, "go on with what is logged from now on, of the pods that are there now")
	p.Int64Var(&o.tail, "tail", -1, "`lines` of each pod's log that are looked at; -1: all")
	return cmd
}

func (f *flags) logs(ctx context.Context, o logFlags) error {
	if _, err := f.connect(ctx); err != nil {
		return err
	}
	config, err := f.config()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	pods, err := client.CoreV1().Pods(o.namespace).List(ctx, metav1.ListOptions{LabelSelector: o.selector})
	if err != nil {
		return err
	}
	out := &lines{out: f.streams.Out}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxFollowed)
	any := false
	for i := range pods.Items {
		pod := &pods.Items[i]
		if proxyOf(pod) == nil || pod.Status.Phase != corev1.PodRunning {
			continue
		}
		any = true
		g.Go(func() error {
			if err := podLogs(ctx, client, pod, o, out); err != nil && ctx.Err() == nil {
				fmt.Fprintf(f.streams.Err, "%s: the log of pod %s/%s: %v\n", f.name, pod.Namespace, pod.Name, err)
			}
			return nil
		})
	}
	if !any {
		return errors.New("there is no pod with a proxy (a container istio-proxy)")
	}
	return g.Wait()
}

// maxFollowed bounds the logs that are read at a time.
const maxFollowed = 500

func podLogs(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, o logFlags, out *lines) error {
	options := &corev1.PodLogOptions{Container: proxyContainer, Follow: o.follow}
	if o.tail >= 0 {
		options.TailLines = &o.tail
	}
	in, err := client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, options).Stream(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		line := scanner.Text()
		if !isAccess(line) || o.denied && !isDenied(line) || o.allowed && isDenied(line) {
			continue
		}
		if err := out.write(pod.Namespace + "/" + pod.Name + " " + line + "\n"); err != nil {
			return err
		}
	}
	return scanner.Err()
}

// deniedWord is how the proxy writes a reason of its own into %RESPONSE_CODE_DETAILS%.
var deniedWord = regexp.MustCompile(`(^|[\s"])egret:[a-z_]+`)

// accessStart is how a line of Istio's access log begins: with %START_TIME%, or as JSON.
var accessStart = regexp.MustCompile(`^\[\d{4}-\d\d-\d\dT|^\{`)

// isAccess tells lines of the access log, in text or JSON, from what else the proxy says.
func isAccess(line string) bool {
	return accessStart.MatchString(line) && !strings.HasPrefix(line, `{"level"`)
}

func isDenied(line string) bool { return deniedWord.MatchString(line) }

// lines writes whole lines, of several logs.
type lines struct {
	mu  sync.Mutex
	out io.Writer
}

func (l *lines) write(s string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := io.WriteString(l.out, s)
	return err
}
