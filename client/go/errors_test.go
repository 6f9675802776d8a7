package sigmax

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
)

func failure(code codes.Code, details ...protoadapt.MessageV1) error {
	result, err := status.New(code, "why").WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return result.Err()
}

func TestErrorsHaveTheServersDetails(t *testing.T) {
	violation := &errdetails.BadRequest_FieldViolation{Field: "inputs[x].shape", Description: "too long"}
	cause := failure(
		codes.InvalidArgument,
		&errdetails.ErrorInfo{Reason: "SHAPE_MISMATCH", Domain: "sigmax"},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{violation}},
	)
	// As grpc-go wraps the last error of a call that it has tried again.
	var err error = newError(fmt.Errorf("max retries exhausted: %w", cause), nil)
	var failed *Error
	if !errors.As(fmt.Errorf("asking: %w", err), &failed) {
		t.Fatalf("got %T", err)
	}
	fields := map[string]string{"inputs[x].shape": "too long"}
	if failed.Code != codes.InvalidArgument || failed.Reason != "SHAPE_MISMATCH" ||
		failed.Message != "why" || !maps.Equal(failed.Fields, fields) || !errors.Is(err, cause) {
		t.Errorf("got %#v", failed)
	}
	if said := err.Error(); said != "sigmax: InvalidArgument (SHAPE_MISMATCH): why" {
		t.Errorf("got %q", said)
	}
}

func TestErrorsSayWhetherACallMaySucceedLater(t *testing.T) {
	final := metadata.Pairs("grpc-retry-pushback-ms", "-1")
	later := metadata.Pairs("grpc-retry-pushback-ms", "100")
	for name, test := range map[string]struct {
		cause    error
		trailer  metadata.MD
		expected bool
	}{
		"no server":            {failure(codes.Unavailable), nil, true},
		"a server that loads":  {failure(codes.Unavailable), later, true},
		"a model that failed":  {failure(codes.Unavailable), final, false},
		"a queue that is full": {failure(codes.ResourceExhausted, &errdetails.RetryInfo{}), later, true},
		"a message too large":  {failure(codes.ResourceExhausted), final, false},
		"a limit of this side": {failure(codes.ResourceExhausted), nil, false},
		"a wrong request":      {failure(codes.InvalidArgument), nil, false},
	} {
		if found := newError(test.cause, test.trailer).Retryable; found != test.expected {
			t.Errorf("%s: got %v", name, found)
		}
	}
}

func TestErrorsOfAContextAreFound(t *testing.T) {
	for code, target := range map[codes.Code]error{
		codes.DeadlineExceeded: context.DeadlineExceeded,
		codes.Canceled:         context.Canceled,
	} {
		if !errors.Is(newError(failure(code), nil), target) {
			t.Errorf("%v is not %v", code, target)
		}
		if errors.Is(newError(failure(codes.Internal), nil), target) {
			t.Errorf("INTERNAL is %v", target)
		}
	}
}
