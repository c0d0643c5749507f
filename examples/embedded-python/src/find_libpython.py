"""Print this interpreter, its shared libpython (or an empty line) and, if there is none, how to get it."""

import os
import sys
import sysconfig

version = "{}.{}".format(*sys.version_info[:2])
abi = sysconfig.get_config_var("LDVERSION") or version
prefix = sys.base_prefix
library_dir = sysconfig.get_config_var("LIBDIR") or ""
multiarch = sysconfig.get_config_var("MULTIARCH") or ""
names = [sysconfig.get_config_var("INSTSONAME") or "", f"libpython{abi}.so.1.0", f"libpython{abi}.so"]
# The directory of this installation first: LIBDIR is that of the machine it was built on.
directories = [
    os.path.join(prefix, "lib"),
    os.path.join(prefix, "lib64"),
    library_dir,
    os.path.join(prefix, "lib", multiarch),
    os.path.join(library_dir, multiarch),
]
candidates = [os.path.join(directory, name) for directory in directories for name in names if ".so" in name]
library = next((os.path.abspath(path) for path in candidates if os.path.isfile(path)), "")

if os.path.isdir(os.path.join(prefix, "conda-meta")):
    advice = (
        f"conda's package python has it: conda install --prefix {prefix} --force-reinstall python={version}"
    )
elif prefix == "/usr" and os.path.exists("/etc/debian_version"):
    advice = f"the package libpython{version} has it: apt-get install libpython{version}"
elif prefix == "/usr":
    advice = f"the package python3-libs (Fedora, RHEL) or libpython{version} (Debian, Ubuntu) has it"
elif ".pyenv" in prefix.split(os.sep):
    advice = f"PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force {os.path.basename(prefix)}"
else:
    advice = (
        "use a Python with a shared library: Debian's package "
        f"libpython{version}, conda's python, `uv python install {version}`, or a build with --enable-shared"
    )
print(os.path.abspath(sys.executable))
print(library)
print(advice)
