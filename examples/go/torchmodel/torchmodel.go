// Package torchmodel runs TorchScript models and AOTInductor packages through the C API in .torchlink/capi.
//
// Models and values free what they own when they are garbage, or at once by Close. A model may be called from many
// goroutines at once.
package torchmodel

// #cgo CFLAGS: -I${SRCDIR}/../.torchlink/capi
// #cgo LDFLAGS: -L${SRCDIR}/../.torchlink/capi -ltorchmodel -Wl,-rpath,${SRCDIR}/../.torchlink/capi
// #include <stdlib.h>
// #include <torchmodel.h>
import "C"

import (
	"fmt"
	"runtime"
	"unsafe"
)

// Error is what libtorch or the C API said of a failure.
type Error struct {
	Status  int
	Message string
}

func (e *Error) Error() string { return e.Message }

// call runs a function of the C API and returns its error. The message belongs to the thread, so the goroutine stays on it.
func call(f func() C.tm_status) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if status := f(); status != C.TM_OK {
		return &Error{int(status), C.GoString(C.tm_last_error())}
	}
	return nil
}

// Kind is what a value is.
type Kind int

const (
	None    Kind = C.TM_NONE
	Bool    Kind = C.TM_BOOL
	Int     Kind = C.TM_INT
	Float   Kind = C.TM_FLOAT
	Complex Kind = C.TM_COMPLEX
	String  Kind = C.TM_STRING
	Tensor  Kind = C.TM_TENSOR
	List    Kind = C.TM_LIST
	Tuple   Kind = C.TM_TUPLE
	Dict    Kind = C.TM_DICT
	Other   Kind = C.TM_OTHER
)

// Value is anything that a model takes or returns.
type Value struct{ handle *C.tm_value }

func newValue(write func(**C.tm_value) C.tm_status) (*Value, error) {
	value := &Value{}
	if err := call(func() C.tm_status { return write(&value.handle) }); err != nil {
		return nil, err
	}
	runtime.SetFinalizer(value, (*Value).Close)
	return value, nil
}

// Close frees the value; a garbage collection does so later otherwise.
func (v *Value) Close() {
	if v.handle != nil {
		C.tm_value_free(v.handle)
		v.handle = nil
		runtime.SetFinalizer(v, nil)
	}
}

// Element is a number type that tensors can have.
type Element interface {
	uint8 | int8 | int16 | int32 | int64 | float32 | float64 | uint16 | uint32 | uint64
}

func dtypeOf[T Element]() C.tm_dtype {
	var zero T
	switch any(zero).(type) {
	case uint8:
		return C.TM_UINT8
	case int8:
		return C.TM_INT8
	case int16:
		return C.TM_INT16
	case int32:
		return C.TM_INT32
	case int64:
		return C.TM_INT64
	case float32:
		return C.TM_FLOAT32
	case uint16:
		return C.TM_UINT16
	case uint32:
		return C.TM_UINT32
	case uint64:
		return C.TM_UINT64
	}
	return C.TM_FLOAT64
}

// NewTensor makes a tensor with a copy of data, in row-major order.
func NewTensor[T Element](data []T, shape ...int64) (*Value, error) {
	elements := int64(1)
	for _, size := range shape {
		elements *= size
	}
	if elements != int64(len(data)) {
		return nil, &Error{C.TM_ERROR_ARGUMENT, fmt.Sprintf("the shape %v does not have %d elements", shape, len(data))}
	}
	var first unsafe.Pointer
	if len(data) > 0 {
		first = unsafe.Pointer(&data[0])
	}
	var sizes *C.int64_t
	if len(shape) > 0 {
		sizes = (*C.int64_t)(unsafe.Pointer(&shape[0]))
	}
	return newValue(func(out **C.tm_value) C.tm_status {
		return C.tm_tensor_copy(first, dtypeOf[T](), sizes, C.int32_t(len(shape)), nil, out)
	})
}

// NewTensor2 makes a tensor of two dimensions from rows of one length.
func NewTensor2[T Element](rows [][]T) (*Value, error) {
	var flat []T
	columns := 0
	for i, row := range rows {
		if i > 0 && len(row) != columns {
			return nil, &Error{C.TM_ERROR_ARGUMENT, "the rows have different lengths"}
		}
		columns = len(row)
		flat = append(flat, row...)
	}
	return NewTensor(flat, int64(len(rows)), int64(columns))
}

// NewInt, NewFloat, NewBool and NewString make values of one.
func NewInt(number int64) (*Value, error) {
	return newValue(func(out **C.tm_value) C.tm_status { return C.tm_value_int(C.int64_t(number), out) })
}

func NewFloat(number float64) (*Value, error) {
	return newValue(func(out **C.tm_value) C.tm_status { return C.tm_value_float(C.double(number), out) })
}

func NewBool(boolean bool) (*Value, error) {
	number := C.int32_t(0)
	if boolean {
		number = 1
	}
	return newValue(func(out **C.tm_value) C.tm_status { return C.tm_value_bool(number, out) })
}

func NewString(text string) (*Value, error) {
	chars := C.CString(text)
	defer C.free(unsafe.Pointer(chars))
	return newValue(func(out **C.tm_value) C.tm_status { return C.tm_value_string(chars, C.size_t(len(text)), out) })
}

// NewList makes a list.
func NewList(items ...*Value) (*Value, error) {
	handles, first := handlesOf(items)
	defer runtime.KeepAlive(items)
	return newValue(func(out **C.tm_value) C.tm_status { return C.tm_value_list(first, C.size_t(len(handles)), out) })
}

func handlesOf(values []*Value) ([]*C.tm_value, **C.tm_value) {
	handles := make([]*C.tm_value, len(values))
	for i, value := range values {
		handles[i] = value.handle
	}
	if len(handles) == 0 {
		return handles, nil
	}
	return handles, &handles[0]
}

// Kind is what the value is.
func (v *Value) Kind() Kind {
	defer runtime.KeepAlive(v)
	kind := C.tm_kind(C.TM_OTHER)
	C.tm_value_kind(v.handle, &kind)
	return Kind(kind)
}

// Int, Float, Bool and Text read a value of that kind.
func (v *Value) Int() (int64, error) {
	defer runtime.KeepAlive(v)
	var number C.int64_t
	err := call(func() C.tm_status { return C.tm_value_get_int(v.handle, &number) })
	return int64(number), err
}

func (v *Value) Float() (float64, error) {
	defer runtime.KeepAlive(v)
	var number C.double
	err := call(func() C.tm_status { return C.tm_value_get_float(v.handle, &number) })
	return float64(number), err
}

func (v *Value) Bool() (bool, error) {
	defer runtime.KeepAlive(v)
	var boolean C.int32_t
	err := call(func() C.tm_status { return C.tm_value_get_bool(v.handle, &boolean) })
	return boolean != 0, err
}

func (v *Value) Text() (string, error) {
	defer runtime.KeepAlive(v)
	var text *C.char
	var size C.size_t
	if err := call(func() C.tm_status { return C.tm_value_get_string(v.handle, &text, &size) }); err != nil {
		return "", err
	}
	return C.GoStringN(text, C.int(size)), nil
}

// Shape returns the sizes of a tensor.
func (v *Value) Shape() ([]int64, error) {
	defer runtime.KeepAlive(v)
	var info C.tm_tensor_info
	if err := call(func() C.tm_status { return C.tm_tensor_get_info(v.handle, &info) }); err != nil {
		return nil, err
	}
	if info.dimensions == 0 {
		return []int64{}, nil
	}
	return append([]int64{}, unsafe.Slice((*int64)(unsafe.Pointer(info.shape)), int(info.dimensions))...), nil
}

// Elements returns the elements of a tensor in row-major order, converted to T.
func Elements[T Element](v *Value) ([]T, error) {
	defer runtime.KeepAlive(v)
	converted, err := newValue(func(out **C.tm_value) C.tm_status {
		return C.tm_tensor_to_dtype(v.handle, dtypeOf[T](), out)
	})
	if err != nil {
		return nil, err
	}
	defer converted.Close()
	var info C.tm_tensor_info
	if err := call(func() C.tm_status { return C.tm_tensor_get_info(converted.handle, &info) }); err != nil {
		return nil, err
	}
	elements := make([]T, int(info.elements))
	if len(elements) == 0 {
		return elements, nil
	}
	size := C.size_t(len(elements)) * C.size_t(unsafe.Sizeof(elements[0]))
	err = call(func() C.tm_status { return C.tm_tensor_read(converted.handle, unsafe.Pointer(&elements[0]), size) })
	return elements, err
}

// Items returns the items of a list, a tuple or a dict, and Keys the keys of a dict in the same order.
func (v *Value) Items() ([]*Value, error) {
	return v.each(func(i C.size_t, out **C.tm_value) C.tm_status { return C.tm_value_item(v.handle, i, out) })
}

func (v *Value) Keys() ([]*Value, error) {
	return v.each(func(i C.size_t, out **C.tm_value) C.tm_status { return C.tm_value_key(v.handle, i, out) })
}

func (v *Value) each(read func(C.size_t, **C.tm_value) C.tm_status) ([]*Value, error) {
	defer runtime.KeepAlive(v)
	var length C.size_t
	if err := call(func() C.tm_status { return C.tm_value_length(v.handle, &length) }); err != nil {
		return nil, err
	}
	items := make([]*Value, int(length))
	for i := range items {
		item, err := newValue(func(out **C.tm_value) C.tm_status { return read(C.size_t(i), out) })
		if err != nil {
			return nil, err
		}
		items[i] = item
	}
	return items, nil
}

// Model is a TorchScript model or an AOTInductor package.
type Model struct{ handle *C.tm_model }

var forward = C.CString("forward")

// Load loads a model on a device: "cpu", "cuda:0", …
func Load(path, device string) (*Model, error) {
	file, where := C.CString(path), C.CString(device)
	defer C.free(unsafe.Pointer(file))
	defer C.free(unsafe.Pointer(where))
	model := &Model{}
	if err := call(func() C.tm_status { return C.tm_model_load(file, where, &model.handle) }); err != nil {
		return nil, err
	}
	runtime.SetFinalizer(model, (*Model).Close)
	return model, nil
}

// Close frees the model.
func (m *Model) Close() {
	if m.handle != nil {
		C.tm_model_free(m.handle)
		m.handle = nil
		runtime.SetFinalizer(m, nil)
	}
}

// Forward calls the model; missing arguments take their defaults.
func (m *Model) Forward(arguments ...*Value) (*Value, error) {
	handles, first := handlesOf(arguments)
	defer runtime.KeepAlive(m)
	defer runtime.KeepAlive(arguments)
	return newValue(func(out **C.tm_value) C.tm_status {
		return C.tm_model_forward(m.handle, first, C.size_t(len(handles)), out)
	})
}

// ExampleShapes returns a shape for each argument of forward that has no default: a guess from the weights.
func (m *Model) ExampleShapes() ([][]int64, error) {
	defer runtime.KeepAlive(m)
	var count C.size_t
	if err := call(func() C.tm_status { return C.tm_model_argument_count(m.handle, forward, &count) }); err != nil {
		return nil, err
	}
	var shapes [][]int64
	for i := C.size_t(0); i < count; i++ {
		var argument C.tm_argument
		if err := call(func() C.tm_status { return C.tm_model_argument(m.handle, forward, i, &argument) }); err != nil {
			return nil, err
		}
		if argument.has_default != 0 {
			break
		}
		var shape [C.TM_MOST_DIMENSIONS]int64
		var dimensions C.int32_t
		err := call(func() C.tm_status {
			return C.tm_model_example_shape(m.handle, forward, i, (*C.int64_t)(unsafe.Pointer(&shape[0])), &dimensions)
		})
		if err != nil {
			return nil, err
		}
		shapes = append(shapes, append([]int64{}, shape[:dimensions]...))
	}
	return shapes, nil
}
