package sigmax_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"

	sigmax "sigmax.dev/go"
	"sigmax.dev/go/internal/environment"
	"sigmax.dev/go/sigmaxv1"
)

// connect returns a client of the real server at SIGMAX_ADDRESS, and skips the test without one.
func connect(t *testing.T, options ...sigmax.Option) *sigmax.Client {
	t.Helper()
	if environment.Address == "" {
		t.Skip("SIGMAX_ADDRESS names no server")
	}
	client, err := environment.Connect(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func expectCode(t *testing.T, err error, code codes.Code, reason string) {
	t.Helper()
	var failed *sigmax.Error
	if !errors.As(err, &failed) || failed.Code != code || failed.Reason != reason {
		t.Errorf("expected %v (%s), got %v", code, reason, err)
	}
}

func TestModelsAreListedAndDescribed(t *testing.T) {
	client := connect(t)
	models, err := client.Models(t.Context())
	if err != nil || len(models) == 0 {
		t.Fatalf("got %v and %v", models, err)
	}
	for _, summary := range models {
		if summary.GetVersions()[0].GetState() != sigmaxv1.ModelState_MODEL_STATE_READY {
			continue
		}
		version := summary.GetVersions()[0].GetVersion()
		model, err := client.Model(t.Context(), summary.GetName(), version)
		if err != nil || model.GetName() != summary.GetName() || model.GetVersion() != version {
			t.Errorf("%s: got %v and %v", summary.GetName(), model, err)
		}
	}
}

func TestHealthIsTold(t *testing.T) {
	status, err := connect(t).Health(t.Context(), "")
	if err != nil || status == grpc_health_v1.HealthCheckResponse_UNKNOWN {
		t.Errorf("got %v and %v", status, err)
	}
}

func TestAnUnknownModelIsAnErrorOfEveryMethod(t *testing.T) {
	client := connect(t)
	_, err := client.Classify(t.Context(), "nobody", sigmax.Row[float32]{1})
	expectCode(t, err, codes.NotFound, "UNKNOWN_MODEL")
	_, err = client.Model(t.Context(), "nobody", "")
	expectCode(t, err, codes.NotFound, "UNKNOWN_MODEL")
	_, err = client.Health(t.Context(), "nobody")
	expectCode(t, err, codes.NotFound, "")
}

func TestCallsEndAtTheirDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if _, err := connect(t).Models(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := connect(t, sigmax.WithTimeout(1)).Models(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("by the client's timeout: got %v", err)
	}
	if _, err := connect(t, sigmax.WithTimeout(0)).Models(t.Context()); err != nil {
		t.Errorf("without a timeout: got %v", err)
	}
}

func TestCallsMayBeCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := connect(t).Models(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestACallOfAClosedClientIsCancelled(t *testing.T) {
	client := connect(t)
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := client.Models(t.Context())
	expectCode(t, err, codes.Canceled, "")
}

func TestMessagesMayBeLimited(t *testing.T) {
	_, err := connect(t, sigmax.WithMaxMessageBytes(1)).Models(t.Context())
	expectCode(t, err, codes.ResourceExhausted, "")
}

func TestManyGoroutinesShareAClient(t *testing.T) {
	client := connect(t)
	var calls sync.WaitGroup
	for range 64 {
		calls.Go(func() {
			if _, err := client.Models(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
}

func TestStreamsAreThereByTheGeneratedStub(t *testing.T) {
	stub := sigmaxv1.NewClassifierServiceClient(connect(t).Connection())
	stream, err := stub.ClassifyStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	request := &sigmaxv1.ClassifyRequest{ModelName: "nobody"}
	if err := stream.Send(&sigmaxv1.ClassifyStreamRequest{Id: "a", Request: request}); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil || answer.GetId() != "a" || answer.GetError().GetReason() != "UNKNOWN_MODEL" {
		t.Errorf("got %v and %v", answer, err)
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Errorf("got %v", err)
	}
}
