"""The web part: metrics, health answers and the status page over HTTP."""
