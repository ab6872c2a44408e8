"""What `loadtest.locustfile` is made of: honest devices and swarms as locust users, and their figures."""
