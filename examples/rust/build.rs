// Links the C API, which `torchlink capi .torchlink/capi` builds for this machine's libtorch.
use std::{env, path::Path};

fn main() {
    let project = env::var("CARGO_MANIFEST_DIR").unwrap();
    let capi = Path::new(&project).join(".torchlink/capi");
    if !capi.join("torchmodel.h").exists() {
        panic!("{} is missing; run: torchlink capi .torchlink/capi", capi.display());
    }
    println!("cargo:rustc-link-search=native={}", capi.display());
    println!("cargo:rustc-link-lib=dylib=torchmodel");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", capi.display());
    println!("cargo:rerun-if-changed={}", capi.display());
}
