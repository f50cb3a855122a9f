from hypothesis import settings

# no deadline: machines that run tests are shared; the same examples every time
settings.register_profile("unit", max_examples=50, deadline=None, derandomize=True)
settings.load_profile("unit")
