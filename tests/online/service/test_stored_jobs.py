from withhold.online.service.settings import MOST_PIXELS
from withhold.online.service.stored_jobs import Image, Manifest


def test_a_job_that_does_not_say_how_large_its_images_are_can_be_read() -> None:
    stored = b'{"key":"k","speed":"quick","images":[{"label":"cat","sha256":"00"},{"sha256":"11","pixels":9}]}'
    found = Manifest.model_validate_json(stored)
    assert found.images == (
        Image(label="cat", sha256="00", pixels=MOST_PIXELS),  # so that it takes no more memory than is counted
        Image(sha256="11", pixels=9),
    )
    assert [image.upload(b"x").pixels for image in found.images] == [MOST_PIXELS, 9]
