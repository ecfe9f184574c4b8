from test_backends import run


def test_losses_on_two_devices_equal_those_on_one(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    run("jax", "tests/pretraining/on_two_devices.py")
