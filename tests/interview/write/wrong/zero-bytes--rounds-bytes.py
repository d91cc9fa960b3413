# kata: zero-bytes
# slip: divides the bytes and rounds those up, instead of the numbers
# named: bytes-rounded


def rank_bytes(frozen, trained, ranks, stage):
    def split(total, from_stage):
        return -(-total // ranks) if stage >= from_stage else total

    return {
        "weights": split(2 * frozen, 3) + split(2 * trained, 3),
        "gradients": split(2 * trained, 2),
        "optimizer": split(12 * trained, 1),
    }
