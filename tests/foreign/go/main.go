// Asks a Sigmax server rightly and wrongly, and prints what came of each call as JSON.
//
// Usage: client ADDRESS MODEL INPUT WIDTH [CA CERTIFICATE KEY], where the model takes FP32 [-1, WIDTH].
// With files the connection is over TLS, and the certificate says who the client is.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"io"
	"log"
	"os"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"sigmax.test/foreign/gen/inference"
	"sigmax.test/foreign/gen/sigmaxv1"
)

// What came of one call.
type outcome struct {
	Code          int       `json:"code"`
	Message       string    `json:"message"`
	Reason        string    `json:"reason"`
	Probabilities []float32 `json:"probabilities"`
}

// The calls, seen alike: rows of zeros but for their first value.
type asker func(ctx context.Context, model string, width int, options ...grpc.CallOption) ([]float32, error)

func main() {
	address, model, input := os.Args[1], os.Args[2], os.Args[3]
	width, err := strconv.Atoi(os.Args[4])
	check(err)
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport(os.Args[5:])))
	check(err)
	defer connection.Close()

	results := map[string]outcome{}
	for call, ask := range map[string]asker{
		"Classify":         classify(sigmaxv1.NewClassifierServiceClient(connection), input),
		"ModelInfer":       modelInfer(inference.NewGRPCInferenceServiceClient(connection), input),
		"ModelStreamInfer": modelStreamInfer(inference.NewGRPCInferenceServiceClient(connection), input),
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		expired, end := context.WithTimeout(context.Background(), time.Nanosecond)
		results[call+" good"] = told(ask(ctx, model, width))
		results[call+" shape"] = told(ask(ctx, model, width+1))
		results[call+" model"] = told(ask(ctx, "nobody", width))
		results[call+" compressed"] = told(ask(ctx, model, width, grpc.UseCompressor("gzip")))
		results[call+" deadline"] = told(ask(expired, model, width))
		results[call+" again"] = told(ask(ctx, model, width))
		end()
		cancel()
	}
	check(json.NewEncoder(os.Stdout).Encode(results))
}

func transport(files []string) credentials.TransportCredentials {
	if len(files) == 0 {
		return insecure.NewCredentials()
	}
	ca, err := os.ReadFile(files[0])
	check(err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		log.Fatalf("%s has no certificate", files[0])
	}
	certificate, err := tls.LoadX509KeyPair(files[1], files[2])
	check(err)
	return credentials.NewTLS(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}})
}

func classify(client sigmaxv1.ClassifierServiceClient, input string) asker {
	return func(ctx context.Context, model string, width int, options ...grpc.CallOption) ([]float32, error) {
		answer, err := client.Classify(ctx, &sigmaxv1.ClassifyRequest{
			ModelName: model,
			Inputs: []*sigmaxv1.Tensor{{
				Name:  input,
				Dtype: sigmaxv1.DataType_DATA_TYPE_FP32,
				Shape: []int64{1, int64(width)},
				Data:  &sigmaxv1.Tensor_Raw{Raw: row(width)},
			}},
			ReturnProbabilities: true,
		}, options...)
		return floats(answer.GetProbabilities().GetRaw()), err
	}
}

func modelInfer(client inference.GRPCInferenceServiceClient, input string) asker {
	return func(ctx context.Context, model string, width int, options ...grpc.CallOption) ([]float32, error) {
		answer, err := client.ModelInfer(ctx, request(model, input, width), options...)
		if err != nil {
			return nil, err
		}
		return floats(answer.RawOutputContents[0]), nil
	}
}

// Three requests on one stream; their answers are the same.
func modelStreamInfer(client inference.GRPCInferenceServiceClient, input string) asker {
	return func(ctx context.Context, model string, width int, options ...grpc.CallOption) ([]float32, error) {
		// Errors come as statuses, with their details, as those of unary calls do.
		ctx = metadata.AppendToOutgoingContext(ctx, "triton_grpc_error", "true")
		stream, err := client.ModelStreamInfer(ctx, options...)
		if err != nil {
			return nil, err
		}
		for range 3 {
			check(stream.Send(request(model, input, width)))
		}
		check(stream.CloseSend())
		var last []float32
		for {
			answer, err := stream.Recv()
			if err == io.EOF {
				return last, nil
			}
			if err != nil {
				return nil, err
			}
			last = floats(answer.InferResponse.RawOutputContents[0])
		}
	}
}

func request(model string, input string, width int) *inference.ModelInferRequest {
	return &inference.ModelInferRequest{
		ModelName: model,
		Inputs: []*inference.ModelInferRequest_InferInputTensor{
			{Name: input, Datatype: "FP32", Shape: []int64{1, int64(width)}},
		},
		RawInputContents: [][]byte{row(width)},
	}
}

// One row of FP32, little-endian: a 1 and then zeros.
func row(width int) []byte {
	raw := make([]byte, 4*width)
	copy(raw, []byte{0, 0, 0x80, 0x3f})
	return raw
}

func floats(raw []byte) []float32 {
	values := make([]float32, len(raw)/4)
	check(binary.Read(bytes.NewReader(raw), binary.LittleEndian, values))
	return values
}

func told(probabilities []float32, err error) outcome {
	said := status.Convert(err)
	result := outcome{Code: int(said.Code()), Message: said.Message(), Probabilities: probabilities}
	for _, detail := range said.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			result.Reason = info.Reason
		}
	}
	return result
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
