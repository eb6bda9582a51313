"""The client side: talks to the gateway's control API and its listeners, and opens loopback endpoints."""
