package lab

import (
	"context"
	"errors"
)

// install is steps 1 to 4: on one machine there is nothing to install but the
// configuration of the mesh.
func (r *runner) install(ctx context.Context) error {
	r.step(1, "Verify that egret runs")
	if err := r.must(ctx, "egret version"); err != nil {
		return err
	}
	r.step(2, "Install")
	r.say("Nothing to do: the one program is the control plane, the sidecar and the egress gateway.")
	r.step(3, "Configure the mesh with outboundTrafficPolicy REGISTRY_ONLY")
	if err := r.must(ctx, "cp examples/lab/mesh.yaml policy/",
		"grep outboundTrafficPolicy -A 2 policy/mesh.yaml"); err != nil {
		return err
	}
	r.step(4, "Validate: a command runs in the mesh, an egress gateway exists")
	return r.must(ctx, "egret analyze policy",
		"egret run -f policy --access-log logs -- echo hello from the mesh")
}

func (r *runner) withoutSidecar(ctx context.Context) error {
	r.step(5, "A command without a sidecar")
	r.say("Nothing of Egret is involved: expected 200 OK.")
	if err := r.measure(ctx, "", Row{
		Scenario:  "No sidecar",
		Wikipedia: Cell{Want: Allowed},
		Google:    Cell{Want: Allowed},
		Reason:    "No enforcement",
	}); err != nil {
		return err
	}
	if row := r.report.Table[0]; !row.Wikipedia.OK() || !row.Google.OK() {
		return errNoInternet
	}
	return nil
}

// errNoInternet: every further step would only show the same.
var errNoInternet = errors.New("calls fail without Egret already: www.wikipedia.org and www.google.com must answer. " +
	"Does this machine reach the internet? Without --internet=real the lab needs no network")

func (r *runner) registryOnly(ctx context.Context) error {
	r.step(6, "The same command in the mesh")
	r.say("REGISTRY_ONLY blocks what no ServiceEntry names: expected 502 Bad Gateway.")
	return r.measure(ctx, inMesh, Row{
		Scenario:  "Sidecar + REGISTRY_ONLY",
		Wikipedia: Cell{Want: Blocked},
		Google:    Cell{Want: Blocked},
		Reason:    "Blocked unless a ServiceEntry exists",
	})
}

func (r *runner) serviceEntry(ctx context.Context) error {
	r.step(7, "A ServiceEntry for Wikipedia")
	if err := r.must(ctx, "cp examples/lab/service_entry.yaml policy/"); err != nil {
		return err
	}
	r.say("Wikipedia works now; Google is still blocked.")
	if err := r.measure(ctx, inMesh, Row{
		Scenario:  "ServiceEntry only",
		Wikipedia: Cell{Want: Allowed},
		Google:    Cell{Want: Blocked},
		Reason:    "Wikipedia registered, Google not",
	}); err != nil {
		return err
	}
	r.step(8, "Why does Google still return 502?")
	// The exit status of explain says "denied", which is what is expected here.
	if _, err := r.do(ctx, "egret explain -f policy "+google); err != nil {
		return err
	}
	r.step(9, "Inspect the egress gateway's access log")
	r.say("Nothing: the ServiceEntry only allows direct egress, no call went through the gateway yet.")
	return r.must(ctx, "cat "+gatewayLog)
}

func (r *runner) egressGateway(ctx context.Context) error {
	r.step(10, "Route Wikipedia through the egress gateway")
	if err := r.must(ctx,
		"cp examples/lab/egressgateway.yaml policy/",
		"cp examples/lab/virtualService.yaml policy/",
		"cp examples/lab/destinationRules.yaml policy/",
		"egret analyze policy"); err != nil {
		return err
	}
	r.step(11, "Verify the way through the egress gateway")
	if err := r.measure(ctx, inMesh, Row{
		Scenario:  "Egress Gateway configured",
		Wikipedia: Cell{Want: ViaGateway},
		Google:    Cell{Want: Blocked},
		Reason:    "Only Wikipedia allowed and routed",
	}); err != nil {
		return err
	}
	r.say("The access log of the egress gateway proves it.")
	return r.must(ctx, "cat "+gatewayLog, "egret explain -f policy "+wikipedia)
}
