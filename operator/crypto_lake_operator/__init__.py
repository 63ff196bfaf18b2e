"""The control plane of crypto-lake: CryptoLake resources in, running lakes out.

    observe   the lake, its children, claims, pods, jobs, and what each collector says     -> observed.Observed
    validate  validate.problems_of(lake)            a spec that came past an old schema    -> list[Problem]
    render    render.plan(lake, settings, observed) every child as it should be            -> render.Plan
    decide    decide.decide(plan, observed)         only what differs                      -> list[decide.Action]
    execute   the actions, against the API server                                          -> list[status.Trouble]
    status    status.compute_status(…)              what a person and kubectl read         -> api_status.Status

All but observe and execute is pure: no clock, no environment, no sockets, neither kopf nor kubernetes. Times come in
as `Observed.taken_at`. docs/operator-design.md tells why each step is as it is.
"""
