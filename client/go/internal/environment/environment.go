// Package environment connects tests to the server that the environment names.
package environment

import (
	"os"

	sigmax "sigmax.dev/go"
)

// Address is the address of the server; empty where there is none to test with.
var Address = os.Getenv("SIGMAX_ADDRESS")

// Connect makes a client of the server at [Address]: over TLS where SIGMAX_CLIENT_TLS_CA names a
// file, and with the token SIGMAX_CLIENT_TOKEN where that is set.
func Connect(options ...sigmax.Option) (*sigmax.Client, error) {
	var known []sigmax.Option
	if ca := os.Getenv("SIGMAX_CLIENT_TLS_CA"); ca != "" {
		known = append(known, sigmax.WithTLS(sigmax.TLS{CA: ca}))
	}
	if token := os.Getenv("SIGMAX_CLIENT_TOKEN"); token != "" {
		known = append(known, sigmax.WithToken(token))
	}
	return sigmax.Connect(Address, append(known, options...)...)
}
