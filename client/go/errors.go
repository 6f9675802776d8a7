package sigmax

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Error is the error of every call, and of everything that is refused before a call.
//
// errors.Is finds context.DeadlineExceeded and context.Canceled in errors of these codes.
type Error struct {
	// Code is gRPC's status.
	Code codes.Code
	// Reason is the reason for programs, such as "SHAPE_MISMATCH"; empty where none was given.
	Reason string
	// Fields are the fields of the request that are wrong, each with a description; may be empty.
	Fields map[string]string
	// Message is the text for people: what was expected and what came.
	Message string
	// Retryable says whether the same call may succeed later: the server could not be reached, or
	// was busy. The client has already tried again.
	Retryable bool

	cause error
}

// Error returns the code, the reason and the message.
func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("sigmax: %v: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("sigmax: %v (%s): %s", e.Code, e.Reason, e.Message)
}

// Unwrap returns gRPC's own error; nil where nothing was sent.
func (e *Error) Unwrap() error {
	return e.cause
}

// Is says whether the error is that of a context whose time has passed or that was cancelled.
func (e *Error) Is(target error) bool {
	return e.Code == codes.DeadlineExceeded && target == context.DeadlineExceeded ||
		e.Code == codes.Canceled && target == context.Canceled
}

// noAddress is all that grpc-go's round_robin says where a name has no addresses.
const noAddress = "no children to pick from"

// newError returns the error of a call that gRPC has ended with an error.
func newError(cause error, trailer metadata.MD) *Error {
	said := statusOf(cause)
	result := &Error{Code: said.Code(), Message: said.Message(), cause: cause}
	if said.Message() == noAddress {
		result.Message = "expected a name with addresses; there is no such name, or it has none"
	}
	result.Retryable = said.Code() == codes.Unavailable
	for _, detail := range said.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			result.Reason = detail.GetReason()
		case *errdetails.RetryInfo:
			result.Retryable = true
		case *errdetails.BadRequest:
			result.Fields = map[string]string{}
			for _, violation := range detail.GetFieldViolations() {
				result.Fields[violation.GetField()] = violation.GetDescription()
			}
		}
	}
	for _, pushback := range trailer.Get("grpc-retry-pushback-ms") {
		if strings.HasPrefix(pushback, "-") { // another try cannot succeed
			result.Retryable = false
		}
	}
	return result
}

// statusOf returns the server's status, without what grpc-go says around it of its retries.
func statusOf(err error) *status.Status {
	var carrier interface{ GRPCStatus() *status.Status }
	if errors.As(err, &carrier) {
		return carrier.GRPCStatus()
	}
	return status.Convert(err)
}

// invalid returns the error for one argument, which is found before anything is sent.
func invalid(field, reason, format string, arguments ...any) *Error {
	message := field + ": " + fmt.Sprintf(format, arguments...)
	return &Error{
		Code:    codes.InvalidArgument,
		Reason:  reason,
		Fields:  map[string]string{field: message},
		Message: message,
	}
}
