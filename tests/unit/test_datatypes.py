"""The table of datatypes, against the tables of those who wrote the protocol and TensorFlow."""

import numpy as np
import pytest

from serve.datatypes import DATATYPES, from_numpy, from_tensorflow

each_datatype = pytest.mark.parametrize("datatype", DATATYPES.values(), ids=DATATYPES)


@each_datatype
def test_tritonclient_has_the_same_numpy_dtype_for_a_name(datatype):
    from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

    assert datatype.numpy == np.dtype(triton_to_np_dtype(datatype.name))
    assert np_to_triton_dtype(datatype.numpy) == datatype.name


@each_datatype
def test_tensorflow_has_the_same_numpy_dtype_for_a_name(datatype):
    import tensorflow as tf
    from tensorflow.core.framework.types_pb2 import DataType

    theirs = tf.dtypes.as_dtype(DataType.Value(datatype.tensorflow))
    assert datatype.numpy == theirs.as_numpy_dtype
    assert from_tensorflow(datatype.tensorflow) is datatype


@pytest.mark.parametrize("strings", [["a", "für"], [b"a", b""], np.array(["a", None], object)])
def test_strings_of_any_kind_are_bytes(strings):
    assert from_numpy(np.asarray(strings).dtype).name == "BYTES"


def test_what_the_protocol_has_no_name_for_is_a_key_error():
    with pytest.raises(KeyError):
        from_numpy(np.complex64)
    with pytest.raises(KeyError):
        from_tensorflow("DT_VARIANT")
