package sigmax

import (
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/grpc/codes"

	"sigmax.dev/go/sigmaxv1"
)

// Result is the answer to a classification.
type Result struct {
	// Model is the name of the model that answered.
	Model string
	// Version is the version that answered, a decimal number.
	Version string
	// Head is the name of the head that answered; empty where the model's one head has no name.
	Head string
	// Rows has the answer to each row, in the order of the request.
	Rows []Classification
	// Probabilities has the head's output for each row: a probability for each class, or for a
	// binary head that of class 1 alone. nil unless the call had [ReturnProbabilities].
	Probabilities [][]float64
	// Message is the server's answer as it came, with the times that the call took in the server.
	Message *sigmaxv1.ClassifyResponse
}

// Classification is the answer to one row.
type Classification struct {
	// ScoredClass is the first class decided on, and so the only one of a binary or multi-class
	// model; its index is -1 where a multi-label model decided on none.
	ScoredClass
	// Decision has the classes decided on, in the order of their indices: one, or for a multi-label
	// model any number.
	Decision []ScoredClass
	// Classes has the most probable classes first, at most [TopK]; ties by the lower index.
	Classes []ScoredClass
}

// ScoredClass is a class and its probability.
type ScoredClass struct {
	// Index of the class, from 0.
	Index int
	// Label is the name of the class; empty where the model declares no labels.
	Label string
	// Probability of the class, in [0, 1].
	Probability float32
}

func newResult(response *sigmaxv1.ClassifyResponse) (*Result, error) {
	result := &Result{
		Model:   response.GetModelName(),
		Version: response.GetModelVersion(),
		Head:    response.GetHead(),
		Rows:    make([]Classification, len(response.GetRows())),
		Message: response,
	}
	for i, row := range response.GetRows() {
		decision := scored(row.GetDecision())
		first := ScoredClass{Index: -1}
		if len(decision) > 0 {
			first = decision[0]
		}
		result.Rows[i] = Classification{first, decision, scored(row.GetClasses())}
	}
	if tensor := response.GetProbabilities(); tensor != nil {
		elements, err := floats(tensor.GetDtype(), tensor.GetRaw())
		if err == nil {
			result.Probabilities, err = split(elements, len(result.Rows))
		}
		if err != nil {
			message := fmt.Sprintf("the server's answer is malformed: probabilities: %v", err)
			return nil, &Error{Code: codes.Internal, Message: message}
		}
	}
	return result, nil
}

func scored(classes []*sigmaxv1.ScoredClass) []ScoredClass {
	result := make([]ScoredClass, len(classes))
	for i, class := range classes {
		result[i] = ScoredClass{int(class.GetIndex()), class.GetLabel(), class.GetProbability()}
	}
	return result
}

// split cuts elements into rows of one length, which share their memory.
func split(elements []float64, rows int) ([][]float64, error) {
	if rows == 0 || len(elements)%rows != 0 {
		return nil, fmt.Errorf("expected %d rows of one length, got %d elements", rows, len(elements))
	}
	width := len(elements) / rows
	result := make([][]float64, rows)
	for i := range result {
		result[i] = elements[i*width : (i+1)*width : (i+1)*width]
	}
	return result, nil
}

// floats decodes elements of any type of floats, which a float64 holds exactly.
func floats(dtype DataType, raw []byte) ([]float64, error) {
	var size int
	var decode func([]byte) float64
	switch little := binary.LittleEndian; dtype {
	case FP16:
		size, decode = 2, func(b []byte) float64 { return half(little.Uint16(b)) }
	case BF16:
		size, decode = 2, func(b []byte) float64 { return single(uint32(little.Uint16(b)) << 16) }
	case FP32:
		size, decode = 4, func(b []byte) float64 { return single(little.Uint32(b)) }
	case FP64:
		size, decode = 8, func(b []byte) float64 { return math.Float64frombits(little.Uint64(b)) }
	default:
		return nil, fmt.Errorf("expected floats, got %v", dtype)
	}
	if len(raw)%size != 0 {
		return nil, fmt.Errorf("expected elements of %d bytes, got %d bytes", size, len(raw))
	}
	result := make([]float64, len(raw)/size)
	for i := range result {
		result[i] = decode(raw[i*size:])
	}
	return result, nil
}

func single(bits uint32) float64 { return float64(math.Float32frombits(bits)) }

// half returns the value of an IEEE 754 binary16: a sign, 5 bits of exponent, 10 of fraction.
func half(bits uint16) float64 {
	exponent, fraction := int(bits>>10&31), float64(bits&1023)
	var size float64
	switch {
	case exponent == 0:
		size = math.Ldexp(fraction, -24)
	case exponent < 31:
		size = math.Ldexp(1024+fraction, exponent-25)
	case fraction == 0:
		size = math.Inf(1)
	default:
		return math.NaN()
	}
	return math.Copysign(size, 1-2*float64(bits>>15))
}
