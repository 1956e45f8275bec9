import numpy as np
from bench import layered

from serve.learn.data import digits
from serve.protocols import rest_v2


def test_the_held_out_digits_are_sent_in_whole_requests_whose_json_is_of_one_length():
    bodies = layered.bodies()
    assert len({body.json_length for body in bodies}) == 1, "wrk has one header for all of them"
    sent = np.concatenate(
        [rest_v2.decode_request(body.data, body.json_length)[0].inputs["image"] for body in bodies]
    )
    images = digits().x_test
    assert len(sent) == 32 * len(bodies) == 32 * (len(images) // 32)
    known = {image.tobytes() for image in images}
    assert {image.tobytes() for image in sent} <= known
    assert len({image.tobytes() for image in sent}) > 0.9 * len(known), "not the same ones again"
