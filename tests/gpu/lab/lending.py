"""Of `handover`, only what borrows the balloon's memory."""

from lab.handover import CASES, JOBS, VMM, frameworks, handovers, several


def run(lab):
    def c_job(*where):
        handovers(*where, cases=[case for case in CASES if case[1] == VMM])

    def libraries(*where):
        frameworks(*where, wanted=[job for job in JOBS if job[3] == VMM])

    several(lab, [c_job, libraries])
