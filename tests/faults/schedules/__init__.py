"""Random fault schedules: ``faults`` befall a host, ``rules`` watch it, ``life`` is what a schedule plays."""
