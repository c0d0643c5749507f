//! A safe wrapper of the C API in `.torchlink/capi/torchmodel.h`.
//!
//! `Model` and `Value` free what they own when they are dropped. A model may be called from many threads at once.

use std::ffi::{CStr, CString};
use std::os::raw::{c_char, c_void};
use std::{fmt, ptr, slice};

mod ffi {
    use super::*;

    #[repr(C)]
    pub struct Model(u8);
    #[repr(C)]
    pub struct Value(u8);
    #[repr(C)]
    pub struct TensorInfo {
        pub data: *mut c_void,
        pub shape: *const i64,
        pub strides: *const i64,
        pub elements: i64,
        pub dimensions: i32,
        pub dtype: i32,
        pub element_size: i32,
        pub is_contiguous: i32,
        pub is_cpu: i32,
    }

    #[repr(C)]
    pub struct Argument {
        pub name: *const c_char,
        pub type_: *const c_char,
        pub default_text: *const c_char,
        pub has_default: i32,
        pub keyword_only: i32,
    }

    extern "C" {
        pub fn tm_last_error() -> *const c_char;
        pub fn tm_model_load(path: *const c_char, device: *const c_char, model: *mut *mut Model) -> i32;
        pub fn tm_model_free(model: *mut Model) -> i32;
        pub fn tm_model_argument_count(model: *const Model, method: *const c_char, count: *mut usize) -> i32;
        pub fn tm_model_argument(model: *const Model, method: *const c_char, index: usize, argument: *mut Argument) -> i32;
        pub fn tm_model_example_shape(model: *const Model, method: *const c_char, index: usize, shape: *mut i64, dimensions: *mut i32) -> i32;
        pub fn tm_model_forward(model: *const Model, arguments: *const *const Value, count: usize, result: *mut *mut Value) -> i32;
        pub fn tm_value_none(value: *mut *mut Value) -> i32;
        pub fn tm_value_bool(boolean: i32, value: *mut *mut Value) -> i32;
        pub fn tm_value_int(number: i64, value: *mut *mut Value) -> i32;
        pub fn tm_value_float(number: f64, value: *mut *mut Value) -> i32;
        pub fn tm_value_string(text: *const c_char, size: usize, value: *mut *mut Value) -> i32;
        pub fn tm_value_list(items: *const *const Value, count: usize, value: *mut *mut Value) -> i32;
        pub fn tm_value_free(value: *mut Value) -> i32;
        pub fn tm_value_kind(value: *const Value, kind: *mut i32) -> i32;
        pub fn tm_value_get_bool(value: *const Value, boolean: *mut i32) -> i32;
        pub fn tm_value_get_int(value: *const Value, number: *mut i64) -> i32;
        pub fn tm_value_get_float(value: *const Value, number: *mut f64) -> i32;
        pub fn tm_value_get_string(value: *const Value, text: *mut *const c_char, size: *mut usize) -> i32;
        pub fn tm_value_length(value: *const Value, length: *mut usize) -> i32;
        pub fn tm_value_item(value: *const Value, index: usize, item: *mut *mut Value) -> i32;
        pub fn tm_value_key(dict: *const Value, index: usize, key: *mut *mut Value) -> i32;
        pub fn tm_tensor_copy(data: *const c_void, dtype: i32, shape: *const i64, dimensions: i32, strides: *const i64, value: *mut *mut Value) -> i32;
        pub fn tm_tensor_get_info(value: *const Value, info: *mut TensorInfo) -> i32;
        pub fn tm_tensor_to_dtype(value: *const Value, dtype: i32, result: *mut *mut Value) -> i32;
        pub fn tm_tensor_to_cpu(value: *const Value, result: *mut *mut Value) -> i32;
    }
}

/// What libtorch or the C API said of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub status: i32,
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{}", self.message)
    }
}

impl std::error::Error for Error {}

pub type Result<T> = std::result::Result<T, Error>;

const FORWARD: &str = "forward\0";

fn check(status: i32) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    let message = unsafe { CStr::from_ptr(ffi::tm_last_error()) }.to_string_lossy().into_owned();
    Err(Error { status, message })
}

/// Call a function that writes a new value.
fn made(write: impl FnOnce(*mut *mut ffi::Value) -> i32) -> Result<Value> {
    let mut handle = ptr::null_mut();
    check(write(&mut handle))?;
    Ok(Value(handle))
}

/// A number type that tensors can have.
pub trait Element: Copy {
    const DTYPE: i32;
}

macro_rules! elements {
    ($($type:ty = $dtype:expr),*) => { $(impl Element for $type { const DTYPE: i32 = $dtype; })* };
}

elements!(u8 = 0, i8 = 1, i16 = 2, i32 = 3, i64 = 4, f32 = 6, f64 = 7, u16 = 27, u32 = 28, u64 = 29);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    None,
    Bool,
    Int,
    Float,
    Complex,
    String,
    Tensor,
    List,
    Tuple,
    Dict,
    Other,
}

/// Anything that a model takes or returns.
pub struct Value(*mut ffi::Value);

// A value is read by several threads at once, and dropped by one.
unsafe impl Send for Value {}
unsafe impl Sync for Value {}

impl Drop for Value {
    fn drop(&mut self) {
        unsafe { ffi::tm_value_free(self.0) };
    }
}

impl Value {
    pub fn none() -> Result<Value> {
        made(|out| unsafe { ffi::tm_value_none(out) })
    }

    /// A tensor with a copy of `data`, in row-major order.
    pub fn tensor<T: Element>(data: &[T], shape: &[i64]) -> Result<Value> {
        let elements = shape.iter().try_fold(1i64, |product, size| product.checked_mul(*size));
        if elements != Some(data.len() as i64) {
            let message = format!("the shape {shape:?} does not have {} elements", data.len());
            return Err(Error { status: 1, message });
        }
        made(|out| unsafe {
            ffi::tm_tensor_copy(data.as_ptr().cast(), T::DTYPE, shape.as_ptr(), shape.len() as i32, ptr::null(), out)
        })
    }

    /// A tensor of two dimensions from rows of one length.
    pub fn tensor2<T: Element>(rows: &[Vec<T>]) -> Result<Value> {
        let columns = rows.first().map_or(0, Vec::len);
        if rows.iter().any(|row| row.len() != columns) {
            return Err(Error { status: 1, message: "the rows have different lengths".into() });
        }
        Value::tensor(&rows.concat(), &[rows.len() as i64, columns as i64])
    }

    pub fn list(items: &[Value]) -> Result<Value> {
        let handles: Vec<_> = items.iter().map(|item| item.0 as *const _).collect();
        made(|out| unsafe { ffi::tm_value_list(handles.as_ptr(), handles.len(), out) })
    }

    pub fn kind(&self) -> Kind {
        use Kind::*;
        let mut kind = 10;
        unsafe { ffi::tm_value_kind(self.0, &mut kind) };
        [None, Bool, Int, Float, Complex, String, Tensor, List, Tuple, Dict, Other][kind as usize]
    }

    pub fn as_bool(&self) -> Result<bool> {
        let mut boolean = 0;
        check(unsafe { ffi::tm_value_get_bool(self.0, &mut boolean) })?;
        Ok(boolean != 0)
    }

    pub fn as_int(&self) -> Result<i64> {
        let mut number = 0;
        check(unsafe { ffi::tm_value_get_int(self.0, &mut number) })?;
        Ok(number)
    }

    pub fn as_float(&self) -> Result<f64> {
        let mut number = 0.0;
        check(unsafe { ffi::tm_value_get_float(self.0, &mut number) })?;
        Ok(number)
    }

    pub fn as_str(&self) -> Result<&str> {
        let (mut text, mut size) = (ptr::null(), 0);
        check(unsafe { ffi::tm_value_get_string(self.0, &mut text, &mut size) })?;
        let bytes = unsafe { slice::from_raw_parts(text.cast::<u8>(), size) };
        std::str::from_utf8(bytes).map_err(|error| Error { status: 3, message: error.to_string() })
    }

    /// The sizes of a tensor.
    pub fn shape(&self) -> Result<&[i64]> {
        let info = self.info()?;
        Ok(if info.dimensions == 0 { &[] } else { unsafe { slice::from_raw_parts(info.shape, info.dimensions as usize) } })
    }

    /// The elements of a tensor, in row-major order. They must have the type `T`: nothing is converted.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let here = made(|out| unsafe { ffi::tm_tensor_to_cpu(self.0, out) })?;
        let info = here.info()?;
        if info.dtype != T::DTYPE {
            let message = format!("the tensor has dtype {}, not {}", info.dtype, T::DTYPE);
            return Err(Error { status: 3, message });
        }
        if info.elements == 0 {
            return Ok(Vec::new());
        }
        Ok(unsafe { slice::from_raw_parts(info.data.cast::<T>(), info.elements as usize) }.to_vec())
    }

    /// The elements of a tensor of any real type, converted.
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        made(|out| unsafe { ffi::tm_tensor_to_dtype(self.0, f64::DTYPE, out) })?.to_vec()
    }

    /// The items of a list, a tuple or a dict.
    pub fn items(&self) -> Result<Vec<Value>> {
        let mut length = 0;
        check(unsafe { ffi::tm_value_length(self.0, &mut length) })?;
        (0..length).map(|index| made(|out| unsafe { ffi::tm_value_item(self.0, index, out) })).collect()
    }

    /// The keys of a dict, in the order of its items.
    pub fn keys(&self) -> Result<Vec<Value>> {
        let mut length = 0;
        check(unsafe { ffi::tm_value_length(self.0, &mut length) })?;
        (0..length).map(|index| made(|out| unsafe { ffi::tm_value_key(self.0, index, out) })).collect()
    }

    fn info(&self) -> Result<ffi::TensorInfo> {
        let mut info = std::mem::MaybeUninit::uninit();
        check(unsafe { ffi::tm_tensor_get_info(self.0, info.as_mut_ptr()) })?;
        Ok(unsafe { info.assume_init() })
    }
}

impl TryFrom<bool> for Value {
    type Error = Error;
    fn try_from(boolean: bool) -> Result<Value> {
        made(|out| unsafe { ffi::tm_value_bool(boolean.into(), out) })
    }
}

impl TryFrom<i64> for Value {
    type Error = Error;
    fn try_from(number: i64) -> Result<Value> {
        made(|out| unsafe { ffi::tm_value_int(number, out) })
    }
}

impl TryFrom<f64> for Value {
    type Error = Error;
    fn try_from(number: f64) -> Result<Value> {
        made(|out| unsafe { ffi::tm_value_float(number, out) })
    }
}

impl TryFrom<&str> for Value {
    type Error = Error;
    fn try_from(text: &str) -> Result<Value> {
        made(|out| unsafe { ffi::tm_value_string(text.as_ptr().cast(), text.len(), out) })
    }
}

/// A TorchScript model or an AOTInductor package.
pub struct Model(*mut ffi::Model);

// Any number of threads may call one model.
unsafe impl Send for Model {}
unsafe impl Sync for Model {}

impl Drop for Model {
    fn drop(&mut self) {
        unsafe { ffi::tm_model_free(self.0) };
    }
}

impl Model {
    /// Load a model on a device: "cpu", "cuda:0", …
    pub fn load(path: &str, device: &str) -> Result<Model> {
        let text = |text: &str| {
            CString::new(text).map_err(|_| Error { status: 1, message: format!("{text:?} has a zero byte") })
        };
        let (path, device) = (text(path)?, text(device)?);
        let mut handle = ptr::null_mut();
        check(unsafe { ffi::tm_model_load(path.as_ptr(), device.as_ptr(), &mut handle) })?;
        Ok(Model(handle))
    }

    /// A shape for each argument of forward that has no default: a guess from the weights.
    pub fn example_shapes(&self) -> Result<Vec<Vec<i64>>> {
        let forward = FORWARD.as_ptr().cast::<c_char>();
        let mut count = 0;
        check(unsafe { ffi::tm_model_argument_count(self.0, forward, &mut count) })?;
        let mut shapes = Vec::new();
        for index in 0..count {
            let mut argument = std::mem::MaybeUninit::<ffi::Argument>::uninit();
            check(unsafe { ffi::tm_model_argument(self.0, forward, index, argument.as_mut_ptr()) })?;
            if unsafe { argument.assume_init() }.has_default != 0 {
                break;
            }
            let (mut shape, mut dimensions) = ([0; 64], 0);
            check(unsafe { ffi::tm_model_example_shape(self.0, forward, index, shape.as_mut_ptr(), &mut dimensions) })?;
            shapes.push(shape[..dimensions as usize].to_vec());
        }
        Ok(shapes)
    }

    /// Call forward; missing arguments take their defaults.
    pub fn forward(&self, arguments: &[&Value]) -> Result<Value> {
        let handles: Vec<_> = arguments.iter().map(|value| value.0 as *const _).collect();
        made(|out| unsafe { ffi::tm_model_forward(self.0, handles.as_ptr(), handles.len(), out) })
    }
}
