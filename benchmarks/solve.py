"""Where the time of ``solve`` goes: 256 x 256, budget 60, default agent."""

from __future__ import annotations

import time

import scopegym
from scopegym.datasets.simulate import simulate_crystal
from scopegym.sample.crystal import Crystal


def main() -> None:
    projection = Crystal.named("YBa2Cu3O7").project((1, 0, 0))
    print("noise  total s  operators  reward  search  import+check  workflows")
    for noise in (0.0, 0.2, 0.4):
        micrograph = simulate_crystal(projection, (256, 256), 0.02, noise=noise, seed=1)
        start = time.perf_counter()
        result = scopegym.solve(micrograph, crystal="YBa2Cu3O7", budget=60, seed=0)
        total = time.perf_counter() - start
        t = result.timing
        rest = total - sum(t.values())
        print(
            f"{noise:5.1f}  {total:7.2f}  {t['operators_s']:9.2f}  {t['reward_s']:6.2f}  "
            f"{t['search_s']:6.2f}  {rest:12.2f}  {len(result.trials):9d}"
        )


if __name__ == "__main__":
    main()
