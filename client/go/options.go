package sigmax

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"
)

const (
	// DefaultTimeout is the time of a call whose context has no deadline.
	DefaultTimeout = 10 * time.Second
	// DefaultMaxMessageBytes is the most bytes of a request or an answer.
	DefaultMaxMessageBytes = 64 << 20
)

// serviceConfig spreads calls over all addresses of a name, and tries calls again that may succeed
// then. grpc-go waits as the trailer grpc-retry-pushback-ms says, and else as this says.
const serviceConfig = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"methodConfig": [{"name": [{}], "retryPolicy": {
		"maxAttempts": 4, "initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 2,
		"retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]
	}}]
}`

// Option is a setting of a client.
type Option func(*settings)

type settings struct {
	tls             *TLS
	token           func(context.Context) (string, error)
	timeout         time.Duration
	maxMessageBytes int
	dial            []grpc.DialOption
}

// TLS says how a client speaks TLS. Files hold PEM, and are read by [Connect].
type TLS struct {
	// CA is the file of the authorities that the server's certificate may come from; empty: those
	// of the system.
	CA string
	// Certificate is the file of the client's own certificate and its issuers; empty: none is shown.
	Certificate string
	// Key is the file of the certificate's private key, without a password.
	Key string
	// ServerName is the name that the server's certificate must have; empty: the address's host.
	ServerName string
}

// WithTLS has the client speak TLS; by default it speaks plaintext. TLS{} trusts the system's
// authorities.
func WithTLS(config TLS) Option {
	return func(settings *settings) { settings.tls = &config }
}

// WithToken sends a token with every call, as "authorization: Bearer TOKEN". A token is never sent in
// plaintext to another machine: without TLS the address must be a loopback address, localhost or a
// Unix socket.
func WithToken(token string) Option {
	return WithTokenSource(func(context.Context) (string, error) { return token, nil })
}

// WithTokenSource sends the token that a function returns, as [WithToken] does. The function is
// called for every try of every call, by many goroutines at a time, so it keeps a token that is
// costly to get. An error that it returns ends the call with the code UNAUTHENTICATED, or with its
// own where it is a gRPC status.
func WithTokenSource(source func(context.Context) (string, error)) Option {
	return func(settings *settings) { settings.token = source }
}

// WithTimeout sets the time of a call whose context has no deadline; 0: no limit.
func WithTimeout(timeout time.Duration) Option {
	return func(settings *settings) { settings.timeout = timeout }
}

// WithMaxMessageBytes sets the most bytes of a request or an answer.
func WithMaxMessageBytes(bytes int) Option {
	return func(settings *settings) { settings.maxMessageBytes = bytes }
}

// WithDialOptions sets anything else that gRPC can do. These options win over all others.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(settings *settings) { settings.dial = append(settings.dial, options...) }
}

// dialOptions returns the settings as gRPC takes them.
func (s *settings) dialOptions(isLocal bool) ([]grpc.DialOption, error) {
	transport := insecure.NewCredentials()
	if s.tls != nil {
		config, err := s.tls.read()
		if err != nil {
			return nil, err
		}
		transport = credentials.NewTLS(config)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(), // that of a DNS record
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(s.maxMessageBytes),
			grpc.MaxCallSendMsgSize(s.maxMessageBytes),
			// A message beyond this would not be tried again; the 5 bytes are gRPC's own header.
			grpc.MaxRetryRPCBufferSize(s.maxMessageBytes+5),
		),
	}
	if s.token != nil {
		if s.tls == nil && !isLocal {
			return nil, invalid("token", "BAD_CREDENTIALS",
				"expected TLS, without which a token is sent to this machine only")
		}
		options = append(options, grpc.WithPerRPCCredentials(bearer{s.token, s.tls != nil}))
	}
	return append(options, s.dial...), nil
}

// read reads the files.
func (t *TLS) read() (*tls.Config, error) {
	config := &tls.Config{ServerName: t.ServerName}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, invalid("tls", "BAD_CREDENTIALS", "%v", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, invalid("tls", "BAD_CREDENTIALS", "%s: expected certificates in PEM, got none", t.CA)
		}
	}
	if (t.Certificate == "") != (t.Key == "") {
		return nil, invalid("tls", "BAD_CREDENTIALS",
			"expected a certificate and its key, or neither; got certificate %q and key %q", t.Certificate, t.Key)
	}
	if t.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
		if err != nil {
			return nil, invalid("tls", "BAD_CREDENTIALS", "%s and %s: %v", t.Certificate, t.Key, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// bearer sends a token with every call.
type bearer struct {
	source   func(context.Context) (string, error)
	needsTLS bool
}

func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b.source(ctx)
	if err != nil {
		return nil, err
	}
	isVisible := func(letter rune) bool { return '!' <= letter && letter <= '~' }
	if token == "" || strings.TrimFunc(token, isVisible) != "" {
		// The message does not show the token.
		return nil, status.Error(codes.Unauthenticated, "token: expected visible ASCII characters only")
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

func (b bearer) RequireTransportSecurity() bool { return b.needsTLS }

// parseAddress returns gRPC's target for an address, and whether it is surely on this machine.
func parseAddress(address string) (target string, isLocal bool, err error) {
	scheme, _, _ := strings.Cut(address, ":")
	if scheme == "unix" || scheme == "unix-abstract" {
		return address, true, nil
	}
	server := strings.TrimPrefix(address, "dns:///")
	if strings.Contains(server, "://") {
		if resolver.Get(scheme) == nil {
			return "", false, badAddress(address)
		}
		return address, false, nil
	}
	host, port, err := net.SplitHostPort(server)
	if err != nil || host == "" || port == "" || strings.ContainsAny(server, ",/@ ") {
		return "", false, badAddress(address)
	}
	return "dns:///" + server, isLoopback(host), nil
}

func isLoopback(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}

func badAddress(address string) error {
	return invalid("address", "BAD_ADDRESS",
		`expected one server as "host:port", "unix:path" or a target in gRPC's notation; got %s`,
		fmt.Sprintf("%q", address))
}
