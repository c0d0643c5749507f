package torchmodel;

/** What a value is, in the order of torchmodel.h. */
public enum Kind { NONE, BOOL, INT, FLOAT, COMPLEX, STRING, TENSOR, LIST, TUPLE, DICT, OTHER }
