package sigmax

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/quick"

	"google.golang.org/grpc/codes"

	"sigmax.dev/go/sigmaxv1"
)

// What a tensor is on the wire: its name and type, its shape, its bytes in hexadecimal.
type wire struct {
	name  string
	dtype DataType
	shape []int64
	raw   string
}

func wires(t *testing.T, inputs Inputs) []wire {
	t.Helper()
	messages, err := inputs.tensors()
	if err != nil {
		t.Fatalf("%v: %v", inputs, err)
	}
	var found []wire
	for _, message := range messages {
		raw, isRaw := message.GetData().(*sigmaxv1.Tensor_Raw)
		if !isRaw {
			t.Fatalf("%v: expected raw data, got %T", inputs, message.GetData())
		}
		bytes := hex.EncodeToString(raw.Raw)
		found = append(found, wire{message.GetName(), message.GetDtype(), message.GetShape(), bytes})
	}
	return found
}

func TestValuesAreEncoded(t *testing.T) {
	for name, test := range map[string]struct {
		inputs   Inputs
		expected []wire
	}{
		"bool":    {Row[bool]{true, false}, []wire{{"", Bool, []int64{1, 2}, "0100"}}},
		"uint8":   {Row[uint8]{1, 255}, []wire{{"", Uint8, []int64{1, 2}, "01ff"}}},
		"uint16":  {Row[uint16]{0x0102}, []wire{{"", Uint16, []int64{1, 1}, "0201"}}},
		"uint32":  {Row[uint32]{0x01020304}, []wire{{"", Uint32, []int64{1, 1}, "04030201"}}},
		"uint64":  {Row[uint64]{math.MaxUint64}, []wire{{"", Uint64, []int64{1, 1}, "ffffffffffffffff"}}},
		"uint":    {Row[uint]{3}, []wire{{"", Uint64, []int64{1, 1}, "0300000000000000"}}},
		"int8":    {Row[int8]{-2}, []wire{{"", Int8, []int64{1, 1}, "fe"}}},
		"int16":   {Row[int16]{-2}, []wire{{"", Int16, []int64{1, 1}, "feff"}}},
		"int32":   {Row[int32]{-2}, []wire{{"", Int32, []int64{1, 1}, "feffffff"}}},
		"int64":   {Row[int64]{math.MinInt64}, []wire{{"", Int64, []int64{1, 1}, "0000000000000080"}}},
		"int":     {Row[int]{-2}, []wire{{"", Int64, []int64{1, 1}, "feffffffffffffff"}}},
		"float32": {Row[float32]{1, -2}, []wire{{"", FP32, []int64{1, 2}, "0000803f000000c0"}}},
		"float64": {Row[float64]{1}, []wire{{"", FP64, []int64{1, 1}, "000000000000f03f"}}},
		"string": {
			Row[string]{"fish", "", "ä\xff"},
			[]wire{{"", Bytes, []int64{1, 3}, "0400000066697368" + "00000000" + "03000000c3a4ff"}},
		},
		"batch":               {Rows[uint8]{{1, 2, 3}, {4, 5, 6}}, []wire{{"", Uint8, []int64{2, 3}, "010203040506"}}},
		"batch of empty rows": {Rows[uint8]{{}, {}}, []wire{{"", Uint8, []int64{2, 0}, ""}}},
		"tensor of values": {
			NewTensor([]int16{1, 2, 3, 4}, 1, 2, 2), []wire{{"", Int16, []int64{1, 2, 2}, "0100020003000400"}},
		},
		"tensor of bytes": {
			Tensor{Name: "x", DataType: FP16, Shape: []int64{1, 1}, Data: []byte{0, 0x3c}},
			[]wire{{"x", FP16, []int64{1, 1}, "003c"}},
		},
		"tensor of the model's type": {
			Tensor{Shape: []int64{0, 5}},
			[]wire{{"", sigmaxv1.DataType_DATA_TYPE_UNSPECIFIED, []int64{0, 5}, ""}},
		},
		"named": {
			Named{"y": Row[bool]{true}, "x": NewTensor([]uint8{7}, 1)},
			[]wire{{"x", Uint8, []int64{1}, "07"}, {"y", Bool, []int64{1, 1}, "01"}},
		},
		"tensors keep their order": {
			Tensors{{Name: "y", DataType: Bool}, {Name: "x", DataType: Int8}},
			[]wire{{"y", Bool, nil, ""}, {"x", Int8, nil, ""}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			found := wires(t, test.inputs)
			isSame := func(a, b wire) bool {
				return a.name == b.name && a.dtype == b.dtype && slices.Equal(a.shape, b.shape) && a.raw == b.raw
			}
			if !slices.EqualFunc(found, test.expected, isSame) {
				t.Errorf("got %v, expected %v", found, test.expected)
			}
		})
	}
}

func TestBatchesThatAreNoneAreRefused(t *testing.T) {
	for field, inputs := range map[string]Inputs{
		"inputs[0].shape": Rows[float32]{{1, 2}, {3}},
		"inputs[x].shape": Named{"x": Rows[string]{}},
	} {
		_, err := inputs.tensors()
		var failed *Error
		if !errors.As(err, &failed) || failed.Code != codes.InvalidArgument ||
			failed.Reason != "SHAPE_MISMATCH" || failed.Fields[field] != failed.Message {
			t.Errorf("%v: got %#v", inputs, err)
		}
	}
}

func TestMissingValuesAreRefused(t *testing.T) {
	client, err := Connect("localhost:8001")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.Classify(t.Context(), "m", nil)
	expectRefusal(t, err, "MISSING_INPUT", "inputs", "nil")
	_, err = client.Classify(t.Context(), "m", Named{"x": nil})
	expectRefusal(t, err, "MISSING_INPUT", "inputs[x]", "nil")
}

func TestFloatsAreDecodedAsTheyWereEncoded(t *testing.T) {
	check := func(elements []float64) bool {
		found, err := floats(FP64, NewTensor(elements).Data)
		return err == nil && slices.EqualFunc(found, elements, isSameFloat)
	}
	checkSingles := func(elements []float32) bool {
		found, err := floats(FP32, NewTensor(elements).Data)
		return err == nil && slices.EqualFunc(found, elements, func(found float64, element float32) bool {
			return isSameFloat(found, float64(element))
		})
	}
	for _, property := range []any{check, checkSingles} {
		if err := quick.Check(property, nil); err != nil {
			t.Error(err)
		}
	}
}

func isSameFloat(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || math.IsNaN(a) && math.IsNaN(b)
}

// A float32 that ends in 13 zeros has the same parts as a half, with wider fields.
func TestEveryHalfIsDecoded(t *testing.T) {
	for bits := range uint32(1 << 16) {
		found := half(uint16(bits))
		sign, exponent, fraction := bits>>15<<31, bits>>10&31, bits&1023<<13
		var expected float64
		switch exponent {
		case 0: // subnormal: what is above the 1 of the smallest normal number
			smallest := math.Float32frombits(sign | 113<<23)
			expected = float64(math.Float32frombits(sign|113<<23|fraction) - smallest)
			expected = math.Copysign(expected, 1-2*float64(bits>>15))
		case 31:
			expected = float64(math.Float32frombits(sign | 255<<23 | fraction))
		default:
			expected = float64(math.Float32frombits(sign | (exponent+112)<<23 | fraction))
		}
		if !isSameFloat(found, expected) {
			t.Fatalf("%#04x: got %v, expected %v", bits, found, expected)
		}
	}
}

func TestEveryBfloat16IsTheUpperHalfOfAFloat32(t *testing.T) {
	for bits := range uint32(1 << 16) {
		raw := binary.LittleEndian.AppendUint16(nil, uint16(bits))
		found, err := floats(BF16, raw)
		expected := float64(math.Float32frombits(bits << 16))
		if err != nil || !isSameFloat(found[0], expected) {
			t.Fatalf("%#04x: got %v and %v, expected %v", bits, found, err, expected)
		}
	}
}
