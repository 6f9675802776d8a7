package sigmax

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"sigmax.dev/go/sigmaxv1"
)

// Element is a type of values that tensors are made of: bool is sent as BOOL, int and int64 as INT64,
// uint and uint64 as UINT64, float32 as FP32, float64 as FP64, a string as BYTES, and so on. Values
// are not converted to the model's type: a model of FP32 refuses float64.
type Element interface {
	bool | uint8 | uint16 | uint32 | uint64 | uint | int8 | int16 | int32 | int64 | int |
		float32 | float64 | string
}

// Inputs are the values of a request: a [Row], [Rows] or a [Tensor] for a model with one input,
// [Named] or [Tensors] for any other.
type Inputs interface {
	tensors() ([]*sigmaxv1.Tensor, error)
}

// Value is the value of one input: a [Row], [Rows] or a [Tensor].
type Value interface {
	Inputs
	// tensor encodes the value; field is the name for errors.
	tensor(field string) (*sigmaxv1.Tensor, error)
}

// Row is one row: a tensor of shape [1, len(row)].
type Row[T Element] []T

// Rows is a batch of rows of the same length: a tensor of shape [len(rows), len(rows[0])].
type Rows[T Element] [][]T

// Named has the value of each input by its name.
type Named map[string]Value

// Tensors has a tensor for each input, in any order.
type Tensors []Tensor

// DataType is the type of a tensor's elements.
type DataType = sigmaxv1.DataType

// Types of a tensor's elements.
const (
	Bool   = sigmaxv1.DataType_DATA_TYPE_BOOL
	Uint8  = sigmaxv1.DataType_DATA_TYPE_UINT8
	Uint16 = sigmaxv1.DataType_DATA_TYPE_UINT16
	Uint32 = sigmaxv1.DataType_DATA_TYPE_UINT32
	Uint64 = sigmaxv1.DataType_DATA_TYPE_UINT64
	Int8   = sigmaxv1.DataType_DATA_TYPE_INT8
	Int16  = sigmaxv1.DataType_DATA_TYPE_INT16
	Int32  = sigmaxv1.DataType_DATA_TYPE_INT32
	Int64  = sigmaxv1.DataType_DATA_TYPE_INT64
	FP16   = sigmaxv1.DataType_DATA_TYPE_FP16
	BF16   = sigmaxv1.DataType_DATA_TYPE_BF16
	FP32   = sigmaxv1.DataType_DATA_TYPE_FP32
	FP64   = sigmaxv1.DataType_DATA_TYPE_FP64
	Bytes  = sigmaxv1.DataType_DATA_TYPE_BYTES
)

// Tensor is a dense, row-major tensor of any type and shape. [NewTensor] makes one of Go's values.
type Tensor struct {
	// Name of the input; may be empty for a model with one input.
	Name string
	// DataType of the elements; 0: that of the model's input.
	DataType DataType
	// Shape is the size of each axis, the batch first.
	Shape []int64
	// Data has the elements in little-endian, without padding; a BOOL is a byte, and each string of
	// BYTES follows its length, 4 bytes. It is not copied, and must not change until the call ends.
	Data []byte
}

// NewTensor returns a tensor without a name of these elements, in row-major order. The server refuses
// it where their number is not the product of the shape.
func NewTensor[T Element](elements []T, shape ...int64) Tensor {
	return Tensor{DataType: dataType[T](), Shape: shape, Data: appendElements(nil, elements)}
}

func (row Row[T]) tensor(string) (*sigmaxv1.Tensor, error) {
	return NewTensor(row, 1, int64(len(row))).message(), nil
}

func (rows Rows[T]) tensor(field string) (*sigmaxv1.Tensor, error) {
	if len(rows) == 0 {
		return nil, invalid(field+".shape", "SHAPE_MISMATCH", "expected a row or more, got none")
	}
	width := len(rows[0])
	all := make([]T, 0, len(rows)*width)
	for number, row := range rows {
		if len(row) != width {
			return nil, invalid(field+".shape", "SHAPE_MISMATCH",
				"expected rows of one length; row 0 has %d elements, row %d has %d", width, number, len(row))
		}
		all = append(all, row...)
	}
	return NewTensor(all, int64(len(rows)), int64(width)).message(), nil
}

func (t Tensor) tensor(string) (*sigmaxv1.Tensor, error) { return t.message(), nil }

func (t Tensor) message() *sigmaxv1.Tensor {
	return &sigmaxv1.Tensor{
		Name: t.Name, Dtype: t.DataType, Shape: t.Shape, Data: &sigmaxv1.Tensor_Raw{Raw: t.Data},
	}
}

func (row Row[T]) tensors() ([]*sigmaxv1.Tensor, error)   { return only(row) }
func (rows Rows[T]) tensors() ([]*sigmaxv1.Tensor, error) { return only(rows) }
func (t Tensor) tensors() ([]*sigmaxv1.Tensor, error)     { return only(t) }

func only(value Value) ([]*sigmaxv1.Tensor, error) {
	tensor, err := value.tensor("inputs[0]")
	return []*sigmaxv1.Tensor{tensor}, err
}

func (named Named) tensors() ([]*sigmaxv1.Tensor, error) {
	messages := make([]*sigmaxv1.Tensor, 0, len(named))
	for _, name := range slices.Sorted(maps.Keys(named)) {
		field := fmt.Sprintf("inputs[%s]", name)
		if named[name] == nil {
			return nil, invalid(field, "MISSING_INPUT", "expected the values of a row or more, got nil")
		}
		message, err := named[name].tensor(field)
		if err != nil {
			return nil, err
		}
		message.Name = name
		messages = append(messages, message)
	}
	return messages, nil
}

func (tensors Tensors) tensors() ([]*sigmaxv1.Tensor, error) {
	messages := make([]*sigmaxv1.Tensor, len(tensors))
	for i, tensor := range tensors {
		messages[i] = tensor.message()
	}
	return messages, nil
}

func dataType[T Element]() DataType {
	var zero T
	switch any(zero).(type) {
	case bool:
		return Bool
	case uint8:
		return Uint8
	case uint16:
		return Uint16
	case uint32:
		return Uint32
	case uint64, uint:
		return Uint64
	case int8:
		return Int8
	case int16:
		return Int16
	case int32:
		return Int32
	case int64, int:
		return Int64
	case float32:
		return FP32
	case float64:
		return FP64
	default:
		return Bytes
	}
}

// appendElements appends elements to raw as [Tensor.Data] has them.
func appendElements[T Element](raw []byte, elements []T) []byte {
	switch elements := any(elements).(type) {
	case []int: // int and uint have the machine's size
		for _, element := range elements {
			raw = binary.LittleEndian.AppendUint64(raw, uint64(element))
		}
		return raw
	case []uint:
		for _, element := range elements {
			raw = binary.LittleEndian.AppendUint64(raw, uint64(element))
		}
		return raw
	case []string:
		for _, element := range elements {
			raw = binary.LittleEndian.AppendUint32(raw, uint32(len(element)))
			raw = append(raw, element...)
		}
		return raw
	default:
		raw, err := binary.Append(raw, binary.LittleEndian, elements)
		if err != nil {
			panic(err) // never: every other Element has a fixed size
		}
		return raw
	}
}
