// Package sigmax asks a Sigmax server to classify rows.
//
//	client, err := sigmax.Connect("localhost:8001")
//	...
//	result, err := client.Classify(ctx, "animal", sigmax.Row[float32]{22, 100, 38, 3, 70, 15})
//	...
//	fmt.Println(result.Rows[0].Label, result.Rows[0].Probability)
//
// Every method may be called by many goroutines at a time, which share one connection to each
// server. Every error is an [*Error]. A call ends at its context's deadline, and where that has none
// after [DefaultTimeout]. A call that the server answers with UNAVAILABLE or RESOURCE_EXHAUSTED is
// tried again, at most three times, when the server says.
package sigmax

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"sigmax.dev/go/sigmaxv1"
)

// Client is a connection to a Sigmax server.
type Client struct {
	connection *grpc.ClientConn
	classifier sigmaxv1.ClassifierServiceClient
	health     grpc_health_v1.HealthClient
	timeout    time.Duration
}

// Connect makes a client of the server at an address: "host:port", "unix:path", or a target in
// gRPC's notation, such as "dns:///host:port". A name with several addresses stands for several
// servers, which are asked in turn. The connection is made by the first call, and again whenever it
// is lost; so a server that is not there is an error of the calls, not of Connect.
//
// Its errors have the code INVALID_ARGUMENT, and the reason BAD_ADDRESS or BAD_CREDENTIALS: the
// address is none, a file of TLS cannot be used, or a token would be sent in plaintext to another
// machine.
func Connect(address string, options ...Option) (*Client, error) {
	settings := settings{timeout: DefaultTimeout, maxMessageBytes: DefaultMaxMessageBytes}
	for _, option := range options {
		option(&settings)
	}
	target, isLocal, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	dial, err := settings.dialOptions(isLocal)
	if err != nil {
		return nil, err
	}
	connection, err := grpc.NewClient(target, dial...)
	if err != nil {
		return nil, invalid("address", "BAD_ADDRESS", "%v", err)
	}
	return &Client{
		connection: connection,
		classifier: sigmaxv1.NewClassifierServiceClient(connection),
		health:     grpc_health_v1.NewHealthClient(connection),
		timeout:    settings.timeout,
	}, nil
}

// Close ends the connection, and calls that still run with the code CANCELLED.
func (c *Client) Close() error {
	return c.connection.Close()
}

// Connection returns the connection to the server, for stubs of other services and for streams, as
// in sigmaxv1.NewClassifierServiceClient(client.Connection()).ClassifyStream(ctx).
func (c *Client) Connection() grpc.ClientConnInterface {
	return c.connection
}

// Classify classifies one row or a batch of rows with a model.
func (c *Client) Classify(
	ctx context.Context, model string, inputs Inputs, options ...ClassifyOption,
) (*Result, error) {
	if inputs == nil {
		return nil, invalid("inputs", "MISSING_INPUT", "expected the values of a row or more, got nil")
	}
	tensors, err := inputs.tensors()
	if err != nil {
		return nil, err
	}
	request := &sigmaxv1.ClassifyRequest{ModelName: model, Inputs: tensors}
	for _, option := range options {
		option(request)
	}
	response, err := call(ctx, c, c.classifier.Classify, request)
	if err != nil {
		return nil, err
	}
	return newResult(response)
}

// Models lists all models of the server in the order of their names, with the state of each version.
func (c *Client) Models(ctx context.Context) ([]*sigmaxv1.ModelSummary, error) {
	response, err := call(ctx, c, c.classifier.ListModels, &sigmaxv1.ListModelsRequest{})
	return response.GetModels(), err
}

// Model describes one version of a model: its inputs, outputs, heads, labels and thresholds. An empty
// version is the newest that is ready.
func (c *Client) Model(ctx context.Context, name, version string) (*sigmaxv1.Model, error) {
	request := &sigmaxv1.GetModelRequest{ModelName: name, ModelVersion: version}
	response, err := call(ctx, c, c.classifier.GetModel, request)
	return response.GetModel(), err
}

// Health returns the status by grpc.health.v1 of the server, for an empty name, or of a model.
func (c *Client) Health(
	ctx context.Context, service string,
) (grpc_health_v1.HealthCheckResponse_ServingStatus, error) {
	request := &grpc_health_v1.HealthCheckRequest{Service: service}
	response, err := call(ctx, c, c.health.Check, request)
	return response.GetStatus(), err
}

// call makes one call, by the client's timeout where the context has no deadline.
func call[Request, Response any](
	ctx context.Context,
	c *Client,
	method func(context.Context, Request, ...grpc.CallOption) (Response, error),
	request Request,
) (Response, error) {
	if _, hasDeadline := ctx.Deadline(); !hasDeadline && c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	var trailer metadata.MD
	response, err := method(ctx, request, grpc.Trailer(&trailer))
	if err != nil {
		return response, newError(err, trailer)
	}
	return response, nil
}

// ClassifyOption is a wish about one classification.
type ClassifyOption func(*sigmaxv1.ClassifyRequest)

// Version asks for one version of the model, a decimal number; by default the newest that is ready.
func Version(version string) ClassifyOption {
	return func(request *sigmaxv1.ClassifyRequest) { request.ModelVersion = version }
}

// Head asks for one head of the model; by default the first.
func Head(name string) ClassifyOption {
	return func(request *sigmaxv1.ClassifyRequest) { request.Head = name }
}

// TopK limits the classes of each row to the k most probable; 0, the default: all.
func TopK(k uint32) ClassifyOption {
	return func(request *sigmaxv1.ClassifyRequest) { request.TopK = k }
}

// Threshold decides on every class whose probability is above it, instead of the model's own
// thresholds; in [0, 1]. A multi-class model has no threshold, and refuses it.
func Threshold(threshold float32) ClassifyOption {
	return func(request *sigmaxv1.ClassifyRequest) { request.Threshold = &threshold }
}

// ReturnProbabilities asks for [Result.Probabilities] as well.
func ReturnProbabilities() ClassifyOption {
	return func(request *sigmaxv1.ClassifyRequest) { request.ReturnProbabilities = true }
}
