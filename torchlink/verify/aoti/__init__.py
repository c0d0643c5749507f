"""Models compiled by AOTInductor: whether they fit what is here, which inputs they take, running them."""
