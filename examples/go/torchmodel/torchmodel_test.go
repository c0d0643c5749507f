package torchmodel

import (
	"reflect"
	"strings"
	"sync"
	"testing"
)

func load(t *testing.T) *Model {
	model, err := Load("../model.pt", "cpu")
	if err != nil {
		t.Fatal(err)
	}
	return model
}

func TestForwardReturnsNumbers(t *testing.T) {
	input, err := NewTensor2([][]float32{{1, 1, 1, 1}, {0, 0, 0, 0}})
	if err != nil {
		t.Fatal(err)
	}
	output, err := load(t).Forward(input)
	if err != nil {
		t.Fatal(err)
	}
	if shape, _ := output.Shape(); !reflect.DeepEqual(shape, []int64{2, 2}) {
		t.Errorf("shape %v", shape)
	}
	if numbers, _ := Elements[float32](output); !reflect.DeepEqual(numbers[:2], []float32{2.5, -0.75}) {
		t.Errorf("numbers %v", numbers)
	}
}

func TestAWrongShapeIsAnError(t *testing.T) {
	input, _ := NewTensor([]float32{1, 1, 1}, 1, 3)
	if _, err := load(t).Forward(input); err == nil || !strings.Contains(err.Error(), "shapes cannot be multiplied") {
		t.Errorf("error %v", err)
	}
	if _, err := NewTensor([]float32{1, 1, 1}, 2, 2); err == nil {
		t.Error("three elements of the shape 2x2")
	}
}

func TestAMissingModelIsAnError(t *testing.T) {
	if _, err := Load("missing.pt", "cpu"); err == nil || !strings.Contains(err.Error(), "missing.pt") {
		t.Errorf("error %v", err)
	}
}

func TestGoroutinesShareAModel(t *testing.T) {
	model := load(t)
	var group sync.WaitGroup
	for i := 0; i < 8; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			input, _ := NewTensor([]float32{1, 1, 1, 1}, 1, 4)
			output, err := model.Forward(input)
			if err != nil {
				t.Error(err)
				return
			}
			if numbers, _ := Elements[float64](output); !reflect.DeepEqual(numbers, []float64{2.5, -0.75}) {
				t.Errorf("numbers %v", numbers)
			}
		}()
	}
	group.Wait()
}
