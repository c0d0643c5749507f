## Passes tensors between torchmodel and flambeau (https://github.com/SciNim/flambeau) without a copy.
##
##   torchlink flags --nim > interop/nim.cfg
##   ln -s LIBTORCH FLAMBEAU/vendor/libtorch      # the root that `torchlink find` prints
##   nim cpp --cc:gcc --path:FLAMBEAU --path:NIM-CPPSTL --path:FUSION/src --out:build/interop interop/flambeau_tensor.nim
##   build/interop
##
## flambeau binds libtorch's C++, so that this program needs `nim cpp`, Nim 2 and libtorch's own flags. It imports cppstl and fusion.

import flambeau/flambeau_raw
import ../torchmodel

let model = loadModel("model.pt")

# flambeau's tensor as an input of the model: `numbers` must live as long as `input`.
var numbers = [1'f32, 1, 1, 1].toRawTensor().unsqueeze(0)
let input = borrow(cast[ptr float32](numbers.data_ptr(float32)), [1, 4])
let output = model.forward(input)

# The model's output as a flambeau tensor, which must not outlive `output`.
var sizes: seq[int64]
for size in output.shape: sizes.add size.int64
let seen = from_blob(output.info.data, IntArrayRef.init(addr sizes[0], sizes.len), kFloat32)

doAssert input.info.data == cast[pointer](numbers.data_ptr(float32)), "the input was copied"
doAssert cast[pointer](seen.data_ptr(float32)) == cast[pointer](output.data(float32)), "the output was copied"
seen.print()
