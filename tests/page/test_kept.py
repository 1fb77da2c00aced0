"""What is kept in memory: the newest, within bounds."""

import pages

from whycam.page.kept import Bounded


def test_the_oldest_go_and_what_was_asked_for_stays() -> None:
    held: Bounded[str] = Bounded(10)
    for name in "abc":
        held.put(name, name.upper(), 3)
    assert held.get("a") == "A"
    held.put("d", "D", 4)
    assert [held.get(name) for name in "abcd"] == ["A", None, "C", "D"]
    assert held.bytes == 10
    held.put("a", "again", 1)
    assert (held.bytes, len(held)) == (8, 3)


def test_the_newest_stays_however_large() -> None:
    held: Bounded[str] = Bounded(10)
    held.put("small", "s", 1)
    held.put("large", "l", 100)
    assert (held.get("small"), held.get("large"), held.bytes) == (None, "l", 100)


def test_bytes_are_counted_and_memory_has_an_end() -> None:
    page = pages.page()
    page.kept.photos.limit, page.kept.maps.limit = 60_000, 100_000
    with pages.asking(page) as asking:
        photos = [asking.add(pages.photo(number))["id"] for number in range(9)]
        assert page.kept.photos.bytes == 6 * 3 * 48 * 64  # six pictures of 9,216 bytes
        assert [asking.client.get(f"/api/photos/{each}").status_code for each in photos] == [404] * 3 + [200] * 6
        maps = [asking.ask(photos[-1], "grad_cam", "cam")["maps"] for _ in range(8)]
        own = 9216 + 2 * 2**14 + 4 * (2 * 7 * 7 + len(pages.LABELS))  # the picture, words, two maps and the answer
        assert page.kept.maps.bytes // len(page.kept.maps) in range(own, own + 200)
        assert len(page.kept.maps) == 100_000 // own
        found = [[asking.client.get(f"/api/maps/{each['id']}/heat.f32").status_code for each in two] for two in maps]
        assert found == [[404, 404]] * 6 + [[200, 200]] * 2


def test_a_photo_that_comes_again_takes_no_more_memory() -> None:
    page = pages.page()
    with pages.asking(page) as asking:
        first = asking.add(pages.photo(), "one.png")
        held = page.kept.photo(first["id"])
        (map_of_one,) = asking.ask(first["id"], "grad_cam")["maps"]
        second = asking.add(pages.photo(), "two.png")
        again = page.kept.photo(second["id"])
        assert (first["id"], second["name"]) == (second["id"], "two.png")
        assert (again.photo.image, again.drawn.image) == (held.photo.image, held.drawn.image)
        assert again.photo.image is held.photo.image
        (map_of_two,) = asking.ask(second["id"], "grad_cam")["maps"]
        for made, name in ((map_of_one, "one"), (map_of_two, "two")):
            said = asking.client.get(f"/api/maps/{made['id']}/raw.npy").headers["content-disposition"]
            assert said.endswith(f"''{name}.grad_cam.map.npy")
