"""What several tests share: real servers, real wheels, real engines."""
