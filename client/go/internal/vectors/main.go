// Command vectors asks the server at SIGMAX_ADDRESS every case of the files in SIGMAX_VECTORS, and
// prints for each a line of JSON that says whether the answer was the expected one.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/grpc/codes"

	sigmax "sigmax.dev/go"
	"sigmax.dev/go/internal/environment"
	"sigmax.dev/go/sigmaxv1"
)

type vector struct {
	Name    string
	Request request
	Answer  *answer
	Error   *failure
}

type request struct {
	Model, Version, Head string
	TopK                 uint32 `json:"top_k"`
	Threshold            *float32
	ReturnProbabilities  bool `json:"return_probabilities"`
	Inputs               []tensor
}

type tensor struct {
	Name, Dtype string
	Shape       []int64 `json:",omitempty"`
	Data        []byte  `json:",omitempty"`
}

type answer struct {
	Model, Version, Head string
	Rows                 []row `json:",omitempty"`
	Probabilities        *tensor
}

type row struct {
	Classes  []class `json:",omitempty"`
	Decision []class `json:",omitempty"`
}

type class struct {
	Index int
	Label string
	Bits  uint32
}

type failure struct {
	Code   codes.Code
	Reason string
	Fields []string
}

type outcome struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Found string `json:"found,omitempty"`
}

func main() {
	log.SetFlags(0)
	files, err := filepath.Glob(filepath.Join(os.Getenv("SIGMAX_VECTORS"), "*.json"))
	check(err)
	if len(files) == 0 || os.Getenv("SIGMAX_VECTORS") == "" || environment.Address == "" {
		log.Fatal("expected a folder of *.json in SIGMAX_VECTORS, and a server's address in SIGMAX_ADDRESS")
	}
	client, err := environment.Connect()
	check(err)
	defer client.Close()
	out := json.NewEncoder(os.Stdout)
	for _, file := range files {
		for _, vector := range read(file) {
			found := vector.differences(ask(client, vector.Request))
			check(out.Encode(outcome{vector.Name, found == "", found}))
		}
	}
}

func read(file string) []vector {
	var content struct{ Cases []vector }
	raw, err := os.ReadFile(file)
	check(err)
	if err := json.Unmarshal(raw, &content); err != nil {
		log.Fatalf("%s: %v", file, err)
	}
	return content.Cases
}

func ask(client *sigmax.Client, request request) (*sigmax.Result, error) {
	options := []sigmax.ClassifyOption{
		sigmax.Version(request.Version), sigmax.Head(request.Head), sigmax.TopK(request.TopK),
	}
	if request.Threshold != nil {
		options = append(options, sigmax.Threshold(*request.Threshold))
	}
	if request.ReturnProbabilities {
		options = append(options, sigmax.ReturnProbabilities())
	}
	inputs := make(sigmax.Tensors, len(request.Inputs))
	for i, input := range request.Inputs {
		dtype, isKnown := sigmaxv1.DataType_value["DATA_TYPE_"+input.Dtype]
		if !isKnown && input.Dtype != "" {
			log.Fatalf("%s: unknown dtype %q", request.Model, input.Dtype)
		}
		inputs[i] = sigmax.Tensor{
			Name: input.Name, DataType: sigmax.DataType(dtype), Shape: input.Shape, Data: input.Data,
		}
	}
	return client.Classify(context.Background(), request.Model, inputs, options...)
}

// differences says what came where something else was expected; empty where the two are the same.
func (v vector) differences(result *sigmax.Result, err error) string {
	if err != nil {
		return v.Error.differences(err)
	}
	if v.Answer == nil {
		return fmt.Sprintf("an answer: %v", result.Message)
	}
	found := answer{Model: result.Model, Version: result.Version, Head: result.Head}
	for _, answered := range result.Rows {
		found.Rows = append(found.Rows, row{classes(answered.Classes), classes(answered.Decision)})
		if first := answered.ScoredClass; len(answered.Decision) > 0 && first != answered.Decision[0] {
			return fmt.Sprintf("%v as the class of a row that is %v", first, answered.Decision[0])
		}
	}
	if message := result.Message.GetProbabilities(); message != nil {
		found.Probabilities = &tensor{
			"", message.GetDtype().String()[len("DATA_TYPE_"):], message.GetShape(), message.GetRaw(),
		}
		if message.GetDtype() == sigmax.FP32 && !slices.Equal(encoded(result.Probabilities), message.GetRaw()) {
			return fmt.Sprintf("%v of %v", result.Probabilities, message)
		}
	}
	if said, expected := text(found), text(*v.Answer); said != expected {
		return said
	}
	return ""
}

func (f *failure) differences(err error) string {
	var failed *sigmax.Error
	if !errors.As(err, &failed) {
		return fmt.Sprintf("an error of another type: %v", err)
	}
	fields := slices.Sorted(maps.Keys(failed.Fields))
	if f != nil && failed.Code == f.Code && failed.Reason == f.Reason &&
		slices.Equal(fields, slices.Compact(slices.Sorted(slices.Values(f.Fields)))) {
		return ""
	}
	return fmt.Sprintf("%v; fields %q", err, fields)
}

func classes(scored []sigmax.ScoredClass) []class {
	result := make([]class, len(scored))
	for i, each := range scored {
		result[i] = class{each.Index, each.Label, math.Float32bits(each.Probability)}
	}
	return result
}

// encoded returns probabilities of an output of FP32 as it had them.
func encoded(probabilities [][]float64) []byte {
	var elements []float32
	for _, row := range probabilities {
		for _, probability := range row {
			elements = append(elements, float32(probability))
		}
	}
	return sigmax.NewTensor(elements).Data
}

// text returns an answer as JSON, without empty lists.
func text(answer answer) string {
	raw, err := json.Marshal(answer)
	check(err)
	return string(raw)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
