"""stand-in"""

import json, socket, time


class Meeting:
    def __init__(self, place, peers):
        self.place, self.peers = place, peers
        self.engine_port = place.port + 2

    def everyone(self, tree):
        if self.place.rank == 0:
            every = [tree] + [json.loads(p.readline()) for p in self.peers]
            for p in self.peers:
                p.write(json.dumps(every) + "\n")
                p.flush()
            return every
        self.peers[0].write(json.dumps(tree) + "\n")
        self.peers[0].flush()
        return json.loads(self.peers[0].readline())

    def sum(self, numbers):
        return [sum(col) for col in zip(*self.everyone(list(map(float, numbers))))]

    def check_same(self, about):
        assert len({json.dumps(x, sort_keys=True) for x in self.everyone(about)}) == 1

    def leave(self, message=None):
        pass

    def wait_for_loss(self):
        pass


def meet(place, about, limit_s=60):
    if place.rank == 0:
        server = socket.create_server((place.host, place.port + 1))
        peers = {}
        for _ in range(place.size - 1):
            f = server.accept()[0].makefile("rw")
            peers[int(f.readline())] = f
        m = Meeting(place, [peers[r] for r in sorted(peers)])
    else:
        for _ in range(300):
            try:
                s = socket.create_connection((place.host, place.port + 1))
                break
            except OSError:
                time.sleep(0.2)
        f = s.makefile("rw")
        f.write(f"{place.rank}\n")
        f.flush()
        m = Meeting(place, [f])
    m.check_same(about)
    return m
