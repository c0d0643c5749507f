pub mod torchmodel;
