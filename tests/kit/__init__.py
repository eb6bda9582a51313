"""What the tests share: real servers, fakes that keep the contracts, strategies."""
