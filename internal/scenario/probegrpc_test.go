package scenario

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

// probeGRPC asks a health service with the real client of gRPC: one call, and the first
// message of a stream.
func probeGRPC(args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	conn, err := grpc.NewClient("dns:///"+args[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	client := grpc_health_v1.NewHealthClient(conn)
	var trailers metadata.MD
	answer, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.Trailer(&trailers))
	if err != nil {
		fmt.Println("x-egret-reason:", trailers.Get("x-egret-reason"))
		return err
	}
	fmt.Println("check:", answer.GetStatus())
	stream, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	if answer, err = stream.Recv(); err != nil {
		return err
	}
	fmt.Println("watch:", answer.GetStatus())
	return nil
}
