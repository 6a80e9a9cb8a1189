package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// state is Envoy's word for what the proxy does.
func (a *Admin) state() adminv3.ServerInfo_State {
	server := a.options.Proxy.Server()
	switch {
	case server == nil || !a.options.Proxy.Serving(a.options.Names):
		return adminv3.ServerInfo_PRE_INITIALIZING
	case server.Draining():
		return adminv3.ServerInfo_DRAINING
	}
	return adminv3.ServerInfo_LIVE
}

func (a *Admin) ready(w http.ResponseWriter, _ *http.Request) error {
	state := a.state()
	if state != adminv3.ServerInfo_LIVE {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, err := fmt.Fprintln(w, state)
	return err
}

// node is who the proxy is, and which program.
func (a *Admin) node() *corev3.Node {
	n, ok := proto.Clone(a.options.Proxy.Node()).(*corev3.Node)
	if !ok {
		return nil
	}
	n.UserAgentName = "egret"
	n.UserAgentVersionType = &corev3.Node_UserAgentVersion{UserAgentVersion: a.options.Version}
	return n
}

func (a *Admin) serverInfo(w http.ResponseWriter, _ *http.Request) error {
	uptime := durationpb.New(time.Since(a.started).Truncate(time.Second))
	info := &adminv3.ServerInfo{
		Version: "egret/" + a.options.Version, State: a.state(), UptimeCurrentEpoch: uptime, UptimeAllEpochs: uptime,
		HotRestartVersion: "disabled", Node: a.node(),
		CommandLineOptions: &adminv3.CommandLineOptions{
			Concurrency: uint32(runtime.GOMAXPROCS(0)), DisableHotRestart: true,
			DrainTime: durationpb.New(max(a.options.DrainTime, 0)),
		},
	}
	if a.options.Level != nil {
		info.CommandLineOptions.LogLevel = levelWord(a.options.Level.Level())
	}
	return writeJSON(w, info)
}

func (a *Admin) listeners(w http.ResponseWriter, r *http.Request) error {
	out := &adminv3.Listeners{}
	if server := a.options.Proxy.Server(); server != nil {
		for _, l := range server.OpenListeners() {
			status := &adminv3.ListenerStatus{Name: l.Name}
			for i, at := range l.Addresses {
				if i == 0 {
					status.LocalAddress = address(at)
				} else {
					status.AdditionalLocalAddresses = append(status.AdditionalLocalAddresses, address(at))
				}
			}
			out.ListenerStatuses = append(out.ListenerStatuses, status)
		}
	}
	if r.URL.Query().Get("format") == "json" {
		return writeJSON(w, out)
	}
	for _, l := range out.GetListenerStatuses() {
		for _, at := range append([]*corev3.Address{l.GetLocalAddress()}, l.GetAdditionalLocalAddresses()...) {
			if _, err := fmt.Fprintf(w, "%s::%s\n", l.GetName(), addressText(at)); err != nil {
				return err
			}
		}
	}
	return nil
}

// address is a socket's address as a message.
func address(a net.Addr) *corev3.Address {
	if at, err := netip.ParseAddrPort(a.String()); err == nil {
		return socketAddress(at.Addr().String(), at.Port())
	}
	return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: a.String()}}}
}

func socketAddress(host string, port uint16) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

func addressText(a *corev3.Address) string {
	if s := a.GetSocketAddress(); s != nil {
		return net.JoinHostPort(s.GetAddress(), fmt.Sprint(s.GetPortValue()))
	}
	return a.GetPipe().GetPath()
}
