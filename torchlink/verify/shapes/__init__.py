"""Running a TorchScript graph on shapes and dtypes instead of tensors."""
