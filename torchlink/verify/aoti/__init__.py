"""Models compiled by AOTInductor: whether they can run here, which inputs they take, running them."""
