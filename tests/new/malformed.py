"""Requests that are wrong, each in one way."""

from __future__ import annotations

ONE = '[{"type":"tensor","data_type":"float32","shape":[1,3],"value":[1,2,3]}]'
WRONG_VALUES = [
    "",
    "{",
    "null",
    "[null]",
    "1",
    '"x"',
    "{}",
    "[]",
    "[[]]",
    "[{}]",
    "[NaN]",
    "[1e999]",
    "[-1e999]",
    f"[{10**40}]",
    "[" * 100_000,
    "[" * 300 + "]" * 300,
    ONE + " x",
    ONE + ONE,
    ONE[:-1],
    "[true]",
    "[1,2,3,4]",
    *(
        ONE.replace("[1,3]", shape)
        for shape in (
            "[-1]",
            "[-1,-3]",
            "[3,1]",
            "[1,4]",
            "[4294967296,4294967296]",
            "[9223372036854775807]",
            "[1e3]",
            "[1.5]",
            "[9223372036854775808]",
            '["1"]',
            "null",
            "{}",
            "3",
            "[1099511627776]",
            f"[{','.join(['1'] * 100)}]",
            "[[1,3]]",
        )
    ),
    *(
        ONE.replace("[1,2,3]", value)
        for value in (
            "[1,2]",
            "[1,2,3,4]",
            "[]",
            "null",
            "{}",
            '"123"',
            '["1",2,3]',
            "[null,2,3]",
            "[[1,2],[3]]",
            "[[[1,2,3]]]",
            "[1e39,2,3]",
            "[true,2,3]",
            "[{},2,3]",
            "1",
        )
    ),
    *(
        ONE.replace('"float32"', dtype)
        for dtype in (
            '"float31"',
            "null",
            "3",
            '"int64"',
            '""',
            '"qint8"',
            '"Float"',
            '"complex64"',
        )
    ),
    *(
        ONE.replace('"tensor"', kind)
        for kind in (
            '"tenser"',
            "null",
            "1",
            '"scalar"',
            '"string"',
            '"tuple"',
            '"list"',
            '"dict"',
            '"generic_dict"',
            '"none"',
            '"image"',
        )
    ),
    *(f'[{{"type":"{kind}"}}]' for kind in ("tensor", "scalar", "string", "tuple", "dict", "image", "other")),
    '[{"type":"image","value":"====" }]',
    '[{"type":"image","value":"aGVsbG8="}]',
    '[{"type":"dict","value":[[1]]}]',
    '[{"type":"dict","value":[[[1],1]]}]',
    '[{"type":"dict","value":[["a",1],[1,1]]}]',
    '[{"type":"scalar","data_type":"uint8","value":256}]',
]
WRONG_BYTES = [
    b"\xff\xfe",
    b"\0",
    b'["\xc0\x80"]',
    b'["\xed\xa0\x80"]',
    b'["' + b"\x01" + b'"]',
    b'["\\ud800"]',
]
WRONG_PATHS = [
    "/serve",
    "/serve?",
    "/serve?servable_identifier",
    "/serve?servable_identifier=",
    "/serve?x=linear.pt",
    *(
        f"/serve?servable_identifier={name}"
        for name in (
            "../models/linear.pt",
            "..",
            ".",
            "/etc/passwd",
            "none.pt",
            "linear",
            "linear.pt%00",
            "%00",
            "%2e%2e%2flinear.pt",
            "a%2flinear.pt",
            "./linear.pt",
            "a//linear.pt",
            "%",
            "%z1",
            "%2",
            "linear.pt/",
            "..%5clinear.pt",
            "x" * 5000 + ".pt",
            "linear.txt",
        )
    ),
    *(
        f"/predictions/{name}"
        for name in ("", "none", "..", "%2e%2e", "a%2fb", "linear%00", "linear/x", "%ff%fe", "linear.pt", "%")
    ),
    *(
        f"/v2/models/{name}/infer"
        for name in ("none", "..", "%2e%2e%2flinear", "linear%00", "linear/versions/2", "linear/versions/x")
    ),
    "/v2/models/linear/generate",
    "/v2/repository/models/none/load",
    "/v2/repository/models/none/unload",
    "/v2/repository/models/linear/frobnicate",
    "/v2/nothing",
    "/nothing",
    "/ping",
    "/models",
    "/metrics",
    "/",
]
INPUT = '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]}'
WRONG_INFERENCES = [
    "",
    "null",
    "[]",
    "{}",
    '{"inputs":null}',
    '{"inputs":[]}',
    '{"inputs":[1]}',
    '{"inputs":[{}]}',
    *(INPUT.replace('"x"', name) for name in ('"y"', "null", "1", '""')),
    *(INPUT.replace('"FP32"', name) for name in ('"FP31"', "null", '"BYTES"', '"INT64"', '"float32"')),
    *(
        INPUT.replace("[1,3]", shape)
        for shape in (
            "[-1,3]",
            "[1,2]",
            "null",
            "[4294967296,4294967296]",
            "[1e9]",
            "[1099511627776]",
            '"x"',
        )
    ),
    *(
        INPUT.replace("[1,2,3]", data)
        for data in ("[1]", "null", '["a",2,3]', "[1e40,2,3]", "[[1],[2],[3]]", "{}")
    ),
    INPUT.replace('"data":[1,2,3]', '"parameters":{"binary_data_size":12}'),
    INPUT.replace('"data":[1,2,3]', '"parameters":{"binary_data_size":-1}'),
    INPUT.replace('"data":[1,2,3]', '"parameters":{"binary_data_size":9223372036854775807}'),
    INPUT[:-1] + ',"outputs":[{"name":"output7"}]}',
    INPUT[:-1] + ',"outputs":1}',
    INPUT[:-1] + ',"outputs":[1]}',
    INPUT[:-1] + ',"id":1}',
    INPUT.replace("}]", '},{"name":"x","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]'),
]
