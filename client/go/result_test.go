package sigmax

import (
	"errors"
	"reflect"
	"testing"

	"google.golang.org/grpc/codes"

	"sigmax.dev/go/sigmaxv1"
)

func TestResultsAreRead(t *testing.T) {
	fur, wings := &sigmaxv1.ScoredClass{Label: "fur", Probability: 0.75},
		&sigmaxv1.ScoredClass{Index: 1, Label: "wings", Probability: 0.5}
	result, err := newResult(&sigmaxv1.ClassifyResponse{
		ModelName: "animal", ModelVersion: "2", Head: "cover",
		Rows: []*sigmaxv1.Classification{
			{Classes: []*sigmaxv1.ScoredClass{fur, wings}, Decision: []*sigmaxv1.ScoredClass{fur, wings}},
			{Classes: []*sigmaxv1.ScoredClass{wings}},
		},
		Probabilities: NewTensor([]float32{0.75, 0.5, 0.25, 0.5}, 2, 2).message(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if result.Model != "animal" || result.Version != "2" || result.Head != "cover" {
		t.Errorf("got %q, version %q, head %q", result.Model, result.Version, result.Head)
	}
	first, second := ScoredClass{0, "fur", 0.75}, ScoredClass{1, "wings", 0.5}
	both, one := []ScoredClass{first, second}, []ScoredClass{second}
	expected := []Classification{{first, both, both}, {ScoredClass{Index: -1}, []ScoredClass{}, one}}
	if !reflect.DeepEqual(result.Rows, expected) {
		t.Errorf("got %v, expected %v", result.Rows, expected)
	}
	if result.Rows[0].Label != "fur" || result.Rows[0].Index != 0 || result.Rows[0].Probability != 0.75 {
		t.Errorf("got %v as the first row's class", result.Rows[0].ScoredClass)
	}
	if expected := [][]float64{{0.75, 0.5}, {0.25, 0.5}}; !reflect.DeepEqual(result.Probabilities, expected) {
		t.Errorf("got %v, expected %v", result.Probabilities, expected)
	}
}

func TestProbabilitiesAreNilUnlessTheyCame(t *testing.T) {
	result, err := newResult(&sigmaxv1.ClassifyResponse{Rows: make([]*sigmaxv1.Classification, 1)})
	if err != nil || result.Probabilities != nil {
		t.Errorf("got %v and %v", result, err)
	}
}

func TestMalformedProbabilitiesAreAnError(t *testing.T) {
	for name, tensor := range map[string]Tensor{
		"no floats":           NewTensor([]int32{1}, 1, 1),
		"half of an element":  {DataType: FP32, Shape: []int64{2, 1}, Data: make([]byte, 6)},
		"rows of two lengths": NewTensor([]float32{1, 2, 3}, 2, 2),
	} {
		rows := []*sigmaxv1.Classification{{}, {}}
		_, err := newResult(&sigmaxv1.ClassifyResponse{Rows: rows, Probabilities: tensor.message()})
		var failed *Error
		if !errors.As(err, &failed) || failed.Code != codes.Internal {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
