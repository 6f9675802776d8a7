package sigmax

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
)

func TestAddressesAreRead(t *testing.T) {
	for address, expected := range map[string]struct {
		target  string
		isLocal bool
	}{
		"localhost:8001":              {"dns:///localhost:8001", true},
		"127.0.0.1:8001":              {"dns:///127.0.0.1:8001", true},
		"[::1]:8001":                  {"dns:///[::1]:8001", true},
		"[::ffff:127.0.0.1]:8001":     {"dns:///[::ffff:127.0.0.1]:8001", true},
		"dns:///localhost:8001":       {"dns:///localhost:8001", true},
		"unix:/run/sigmax.sock":       {"unix:/run/sigmax.sock", true},
		"unix-abstract:sigmax":        {"unix-abstract:sigmax", true},
		"sigmax.example:8001":         {"dns:///sigmax.example:8001", false},
		"localhost.example:8001":      {"dns:///localhost.example:8001", false},
		"127.0.0.1.example:8001":      {"dns:///127.0.0.1.example:8001", false},
		"10.0.0.1:8001":               {"dns:///10.0.0.1:8001", false},
		"dns://10.0.0.1/localhost:1":  {"dns://10.0.0.1/localhost:1", false},
		"passthrough:///10.0.0.1:801": {"passthrough:///10.0.0.1:801", false},
	} {
		target, isLocal, err := parseAddress(address)
		if err != nil || target != expected.target || isLocal != expected.isLocal {
			t.Errorf("%s: got %q, %v, %v", address, target, isLocal, err)
		}
	}
}

func TestWrongAddressesAreRefused(t *testing.T) {
	for _, address := range []string{
		"", "localhost", ":8001", "localhost:", "::1", "http://localhost:8001", "a:1,b:2", "a b:1",
		"10.0.0.1:1/localhost:1", "nobody://localhost:8001",
	} {
		_, err := Connect(address)
		expectRefusal(t, err, "BAD_ADDRESS", "address", `"`+address+`"`)
	}
}

func TestANameWithoutAddressesIsSaid(t *testing.T) {
	names := manual.NewBuilderWithScheme("dns")
	names.InitialState(resolver.State{})
	client, err := Connect("nobody.example:8001",
		WithDialOptions(grpc.WithResolvers(names), grpc.WithDisableRetry()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.Models(t.Context())
	var failed *Error
	if !errors.As(err, &failed) || failed.Code != codes.Unavailable || !strings.Contains(failed.Message, "name") {
		t.Errorf("got %v", err)
	}
}

func TestATokenIsNeverSentInPlaintextToAnotherMachine(t *testing.T) {
	const token = "secret"
	_, err := Connect("sigmax.example:8001", WithToken(token))
	expectRefusal(t, err, "BAD_CREDENTIALS", "token", "TLS")
	if strings.Contains(err.Error(), token) {
		t.Errorf("the error shows the token: %v", err)
	}
	for address, options := range map[string][]Option{
		"sigmax.example:8001": {WithTLS(TLS{})},
		"localhost:8001":      nil,
		"unix:/run/sigmax":    nil,
	} {
		client, err := Connect(address, append(options, WithToken(token))...)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		client.Close()
	}
}

func TestTokensAreSent(t *testing.T) {
	source := func(context.Context) (string, error) { return "abc~", nil }
	metadata, err := bearer{source: source}.GetRequestMetadata(t.Context())
	if err != nil || len(metadata) != 1 || metadata["authorization"] != "Bearer abc~" {
		t.Errorf("got %v and %v", metadata, err)
	}
}

func TestWrongTokensAreNotShown(t *testing.T) {
	for _, token := range []string{"", "secret\n", " secret", "sec ret", "secrét", "sec\x00ret"} {
		source := func(context.Context) (string, error) { return token, nil }
		_, err := bearer{source: source}.GetRequestMetadata(t.Context())
		if status.Code(err) != codes.Unauthenticated || strings.Contains(err.Error(), "sec") {
			t.Errorf("%q: got %v", token, err)
		}
	}
}

func TestAnErrorOfATokensSourceEndsTheCall(t *testing.T) {
	cause := errors.New("the vault is shut")
	source := func(context.Context) (string, error) { return "", cause }
	if _, err := (bearer{source: source}).GetRequestMetadata(t.Context()); err != cause {
		t.Errorf("got %v", err)
	}
}

func TestWrongFilesOfTLSAreRefused(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, config := range []TLS{
		{CA: "missing.pem"},
		{CA: empty},
		{Certificate: "missing.pem"},
		{Key: "missing.pem"},
		{Certificate: empty, Key: empty},
	} {
		_, err := Connect("localhost:8001", WithTLS(config))
		expectRefusal(t, err, "BAD_CREDENTIALS", "tls", config.CA+config.Certificate)
	}
}

func expectRefusal(t *testing.T, err error, reason, field, part string) {
	t.Helper()
	var failed *Error
	if !errors.As(err, &failed) || failed.Code != codes.InvalidArgument || failed.Reason != reason ||
		failed.Fields[field] == "" || !strings.Contains(failed.Message, part) {
		t.Errorf("expected %s of %s with %q, got %v", reason, field, part, err)
	}
}
