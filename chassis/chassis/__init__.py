"""The microservice chassis: what every service needs alike, and no shop noun."""

__version__ = "0.1.0"
